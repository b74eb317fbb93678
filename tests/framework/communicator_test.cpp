#include "framework/comm/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/compare.h"
#include "tests/support/ranks.h"

namespace polyhead {
namespace {

using testing::bitwise_equal;
using ::testing::ElementsAreArray;
using testing::for_each_group;
using ::testing::HasSubstr;

constexpr std::initializer_list<int> kSizes = {1, 2, 3, 4, 5};
constexpr std::initializer_list<DType> kDTypes = {DType::kF32, DType::kF64, DType::kI32};
constexpr std::initializer_list<std::int64_t> kRows = {0, 1, 3, 7, 2049};

// What rank `rank` contributes. The magnitudes differ, so that another order of summation gives
// other bits.
Tensor contribution(int rank, const Shape& shape, DType dtype) {
  const std::string name = "rank " + std::to_string(rank);
  if (dtype != DType::kI32) {
    return testing::random_tensor(shape, dtype, name, rank % 2 == 0 ? 1.0 : 1e-3);
  }
  Tensor x = Tensor::empty(shape, dtype);
  const Tensor source = testing::random_tensor(shape, DType::kF64, name, 1e6);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    x.data<std::int32_t>()[i] = static_cast<std::int32_t>(source.data<double>()[i]);
  }
  return x;
}

template <class T>
Tensor sum_in_rank_order(int ranks, const Shape& shape) {
  Tensor sum = contribution(0, shape, dtype_of<T>());
  for (int rank = 1; rank < ranks; ++rank) {
    const Tensor x = contribution(rank, shape, dtype_of<T>());
    for (std::int64_t i = 0; i < x.numel(); ++i) sum.data<T>()[i] += x.data<T>()[i];
  }
  return sum;
}

Tensor sum_in_rank_order(int ranks, const Shape& shape, DType dtype) {
  if (dtype == DType::kF64) return sum_in_rank_order<double>(ranks, shape);
  if (dtype == DType::kF32) return sum_in_rank_order<float>(ranks, shape);
  return sum_in_rank_order<std::int32_t>(ranks, shape);
}

// Calls body(dtype, shape) for odd, even and empty shapes.
template <class Body>
void for_each_case(Body&& body) {
  for (DType dtype : kDTypes) {
    for (std::int64_t rows : kRows) body(dtype, Shape{rows, 5});
  }
}

TEST(Communicator, AllReduceAddsInRankOrder) {
  for_each_group(kSizes, [](const Communicator& group) {
    for_each_case([&](DType dtype, const Shape& shape) {
      Tensor x = contribution(group.rank(), shape, dtype);
      group.all_reduce(x);
      EXPECT_TRUE(bitwise_equal(x, sum_in_rank_order(group.size(), shape, dtype)))
          << group.size() << " ranks, " << name_of(dtype) << shape.to_string();
    });
  });
}

TEST(Communicator, MaximumKeepsNaN) {
  for_each_group(kSizes, [](const Communicator& group) {
    for (int odd_one = 0; odd_one < group.size(); ++odd_one) {
      Tensor x = Tensor::zeros({3}, DType::kF32);
      x.data<float>()[0] = static_cast<float>(-group.rank());
      x.data<float>()[1] = static_cast<float>(group.rank());
      if (group.rank() == odd_one) x.data<float>()[2] = std::numeric_limits<float>::quiet_NaN();
      group.all_reduce(x, Reduction::kMax);
      EXPECT_EQ(x.data<float>()[0], 0);
      EXPECT_EQ(x.data<float>()[1], static_cast<float>(group.size() - 1));
      EXPECT_TRUE(std::isnan(x.data<float>()[2]));
    }
  });
}

TEST(Communicator, AllGatherKeepsRankOrder) {
  for_each_group(kSizes, [](const Communicator& group) {
    for_each_case([&](DType dtype, const Shape& shape) {
      const Tensor part = contribution(group.rank(), shape, dtype);
      Tensor whole = Tensor::empty({shape[0] * group.size(), shape[1]}, dtype);
      group.all_gather(part, whole);
      for (int rank = 0; rank < group.size(); ++rank) {
        const Tensor rows = whole.row_slice(rank * shape[0], (rank + 1) * shape[0]);
        EXPECT_TRUE(bitwise_equal(rows, contribution(rank, shape, dtype)));
      }
    });
  });
}

TEST(Communicator, ReduceScatterAddsInRankOrder) {
  for_each_group(kSizes, [](const Communicator& group) {
    for_each_case([&](DType dtype, const Shape& shape) {
      const Shape whole_shape = {shape[0] * group.size(), shape[1]};
      const Tensor whole = contribution(group.rank(), whole_shape, dtype);
      Tensor part = Tensor::empty(shape, dtype);
      group.reduce_scatter(whole, part);
      const Tensor sum = sum_in_rank_order(group.size(), whole_shape, dtype);
      const std::int64_t begin = group.rank() * shape[0];
      EXPECT_TRUE(bitwise_equal(part, sum.row_slice(begin, begin + shape[0])));
    });
  });
}

// Longer than any piece or segment that a transport cuts messages into.
TEST(Communicator, LongMessages) {
  for_each_group({1, 2, 3}, [](const Communicator& group) {
    constexpr std::int64_t kLength = 1200001;  // 4.8 MB
    const auto value = [](int rank, std::int64_t i) {
      return static_cast<std::int32_t>(i % 1000003 * (rank + 1));
    };
    const auto sum = [&](std::int64_t i) {
      std::int32_t total = 0;
      for (int rank = 0; rank < group.size(); ++rank) total += value(rank, i);
      return total;
    };
    const auto count_wrong = [](const Tensor& x, const auto& expected) {
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < x.numel(); ++i)
        wrong += x.data<std::int32_t>()[i] != expected(i);
      return wrong;
    };
    Tensor part = Tensor::empty({kLength}, DType::kI32);
    Tensor whole = Tensor::empty({kLength * group.size()}, DType::kI32);
    const auto fill = [&](Tensor& x) {
      for (std::int64_t i = 0; i < x.numel(); ++i) {
        x.data<std::int32_t>()[i] = value(group.rank(), i);
      }
    };
    fill(part);
    group.all_gather(part, whole);
    EXPECT_EQ(count_wrong(whole,
                          [&](std::int64_t i) {
                            return value(static_cast<int>(i / kLength), i % kLength);
                          }),
              0);
    group.all_reduce(part);
    EXPECT_EQ(count_wrong(part, sum), 0);
    fill(whole);
    group.reduce_scatter(whole, part);
    EXPECT_EQ(count_wrong(part, [&](std::int64_t i) { return sum(group.rank() * kLength + i); }),
              0);
    fill(part);
    group.broadcast(part, group.size() - 1);
    EXPECT_EQ(count_wrong(part, [&](std::int64_t i) { return value(group.size() - 1, i); }), 0);
  });
}

// A flat buffer is reduced and gathered in place.
TEST(Communicator, PartMayBeItsOwnRowsOfTheWhole) {
  for_each_group(kSizes, [](const Communicator& group) {
    const Shape shape = {13 * group.size(), 3};
    Tensor whole = contribution(group.rank(), shape, DType::kF32);
    Tensor part = whole.row_slice(13 * group.rank(), 13 * (group.rank() + 1));
    group.reduce_scatter(whole, part);
    group.all_gather(part, whole);
    EXPECT_TRUE(bitwise_equal(whole, sum_in_rank_order(group.size(), shape, DType::kF32)));
  });
}

TEST(Communicator, ReduceToEveryRankAddsInRankOrder) {
  for_each_group(kSizes, [](const Communicator& group) {
    for_each_case([&](DType dtype, const Shape& shape) {
      for (int root = 0; root < group.size(); ++root) {
        const Tensor own = contribution(group.rank(), shape, dtype);
        Tensor x = own.clone();
        group.reduce(x, root);
        EXPECT_TRUE(bitwise_equal(
            x, group.rank() == root ? sum_in_rank_order(group.size(), shape, dtype) : own));
      }
    });
  });
}

TEST(Communicator, BroadcastFromEveryRank) {
  for_each_group(kSizes, [](const Communicator& group) {
    for_each_case([&](DType dtype, const Shape& shape) {
      for (int root = 0; root < group.size(); ++root) {
        Tensor x = contribution(group.rank(), shape, dtype);
        group.broadcast(x, root);
        EXPECT_TRUE(bitwise_equal(x, contribution(root, shape, dtype)));
      }
    });
  });
}

TEST(Communicator, StringsOfAnyLength) {
  for_each_group(kSizes, [](const Communicator& group) {
    for (std::size_t length : {0, 1, 100, 100000}) {
      const auto text = [&](int rank) {
        return std::string(length * static_cast<std::size_t>(rank), static_cast<char>('a' + rank)) +
               std::string(rank == 1 ? 1 : 0, '\0');
      };
      std::vector<std::string> expected;
      for (int rank = 0; rank < group.size(); ++rank) expected.push_back(text(rank));
      EXPECT_EQ(group.all_gather_strings(text(group.rank())), expected);
    }
  });
}

TEST(Communicator, SplitsIntoGroupsOrderedByRank) {
  for_each_group(kSizes, [](const Communicator& group) {
    const std::unique_ptr<Communicator> half = group.split(group.rank() % 2);
    EXPECT_EQ(half->rank(), group.rank() / 2);
    EXPECT_EQ(half->size(), (group.size() + 1 - group.rank() % 2) / 2);
    std::vector<std::string> expected;
    for (int rank = group.rank() % 2; rank < group.size(); rank += 2) {
      expected.push_back(std::to_string(rank));
    }
    EXPECT_THAT(half->all_gather_strings(std::to_string(group.rank())), ElementsAreArray(expected));

    const std::unique_ptr<Communicator> single = half->split(half->rank());
    EXPECT_EQ(single->size(), 1);
    // Groups of different sizes work at the same time, and the first one still works.
    for (int i = 0; i < half->rank(); ++i) single->barrier();
    Tensor ones = Tensor::zeros({1}, DType::kI32);
    ones.data<std::int32_t>()[0] = 1;
    half->all_reduce(ones);
    EXPECT_EQ(ones.data<std::int32_t>()[0], half->size());
    group.barrier();
  });
}

TEST(Communicator, CountsCallsAndBytes) {
  for_each_group(kSizes, [](const Communicator& group) {
    const std::int64_t peers = group.size() - 1;
    const CommunicationCounters before = group.counters();
    Tensor x = Tensor::zeros({10 * group.size()}, DType::kF32);
    group.all_reduce(x);
    group.split(0)->start_all_reduce(x).wait();
    group.barrier();
    EXPECT_EQ(group.counters()[Collective::kAllReduce].calls - before[Collective::kAllReduce].calls,
              2);
    EXPECT_EQ(group.counters()[Collective::kAllReduce].bytes - before[Collective::kAllReduce].bytes,
              2 * 2 * 40 * peers);
    EXPECT_EQ(group.counters().total().calls - before.total().calls, 4);
    group.reduce(x, 0);
    EXPECT_EQ(group.counters()[Collective::kReduce].calls, before[Collective::kReduce].calls + 1);
    EXPECT_EQ(group.counters()[Collective::kReduce].bytes - before[Collective::kReduce].bytes,
              group.rank() == 0 ? 0 : 40 * group.size());
  });
}

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

TEST(RunOnAllRanks, TellsAProblemOfOneRankOnAll) {
  for_each_group(kSizes, [](const Communicator& group) {
    const int last = group.size() - 1;
    const auto fails = [&](int rank) {
      return message_of([&] {
        run_on_all_ranks(group,
                         [&] { require(group.rank() != rank, "vocabulary.txt: no such file"); });
      });
    };
    EXPECT_EQ(fails(-1), "no error");
    EXPECT_EQ(fails(last), group.size() == 1
                               ? "vocabulary.txt: no such file"
                               : fmt::format("rank {}: vocabulary.txt: no such file", last));
    EXPECT_EQ(
        message_of([&] { run_on_all_ranks(group, [] { fail("layers: 0 is not positive"); }); }),
        "layers: 0 is not positive");
  });
}

TEST(Threads, AFailingRankReleasesTheOthers) {
  const auto work = [](const Communicator& group) {
    const std::unique_ptr<Communicator> pair = group.split(group.rank() / 2);
    if (group.rank() >= 2) fail("rank {} fails", group.rank());
    while (true) (group.rank() == 0 ? *pair : group).barrier();
  };
  EXPECT_EQ(message_of([&] { run_on_threads(4, work); }), "rank 2 fails");
}

TEST(Threads, ARankThatReturnsEarlyIsNamed) {
  const auto work = [](const Communicator& group) {
    if (group.rank() != 1) group.barrier();
  };
  EXPECT_THAT(message_of([&] { run_on_threads(2, work); }),
              HasSubstr("rank 1 returned while rank 0 waits for it in barrier"));
}

TEST(Threads, DifferentCollectivesAreNamed) {
  const auto work = [](const Communicator& group) {
    Tensor x = Tensor::zeros({group.rank() == 2 ? 4 : 3}, DType::kF32);
    group.all_reduce(x);
  };
  EXPECT_THAT(message_of([&] { run_on_threads(3, work); }),
              HasSubstr("rank 0 all_reduce of 3 f32, rank 2 all_reduce of 4 f32"));
}

}  // namespace
}  // namespace polyhead
