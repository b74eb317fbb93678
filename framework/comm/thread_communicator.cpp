#include "framework/comm/thread_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "framework/comm/checked_communicator.h"
#include "framework/comm/reduction.h"
#include "framework/error.h"

namespace polyhead {
namespace {

// Thrown in the ranks that wait for one that failed. Not a std::exception: no handler in the
// work takes it for a failure of its own.
struct Released {};

// One call of run_on_threads: what all its groups share.
struct Run {
  std::mutex mutex;
  std::condition_variable changed;
  bool aborted = false;
  std::vector<bool> returned;  // by rank of the whole run

  void end_rank(int rank, bool failed) {
    const std::lock_guard lock(mutex);
    returned[static_cast<std::size_t>(rank)] = true;
    aborted = aborted || failed;
    changed.notify_all();
  }
};

// What a rank shows the others in a collective.
struct Posting {
  Collective collective = Collective::kBarrier;
  DType dtype = DType::kF32;
  std::int64_t count = 0;  // must agree, as the two above and `detail`
  int detail = 0;          // the root, or the reduction
  void* data = nullptr;
  int color = 0;
  const std::string* text = nullptr;

  bool agrees_with(const Posting& other) const {
    return collective == other.collective && dtype == other.dtype && count == other.count &&
           detail == other.detail;
  }
  std::string to_string() const {
    return fmt::format("{} of {} {}", name_of(collective), count, name_of(dtype));
  }
};

class Group {
 public:
  Group(Run& run, std::vector<int> members)
      : run_(run), members_(std::move(members)), postings_(members_.size()) {}

  int size() const { return static_cast<int>(members_.size()); }
  const Posting& posting(int rank) const { return postings_[static_cast<std::size_t>(rank)]; }

  // Waits until every rank has posted; from then until leave() all postings can be read. Throws if
  // the run is aborted or if a rank posts something else.
  void enter(int rank, const Posting& mine) {
    std::unique_lock lock(run_.mutex);
    if (run_.aborted) throw Released{};
    postings_[static_cast<std::size_t>(rank)] = mine;
    const std::int64_t round = round_;
    if (arrive()) disagreement_ = find_disagreement();
    int returned = -1;
    run_.changed.wait(lock, [&] {
      returned = returned_member();
      return round_ != round || run_.aborted || returned >= 0;
    });
    if (round_ == round && run_.aborted) throw Released{};
    POLYHEAD_CHECK(round_ != round, "rank {} returned while rank {} waits for it in {}", returned,
                   members_[static_cast<std::size_t>(rank)], name_of(mine.collective));
    POLYHEAD_CHECK(disagreement_.empty(), "the ranks of a group call different collectives: {}",
                   disagreement_);
  }

  // Between enter() and leave() of a split: the group of this rank's colour, and its rank there.
  std::pair<std::shared_ptr<Group>, int> subgroup(int rank) {
    const int color = posting(rank).color;
    std::vector<int> members;
    int new_rank = 0;
    for (int other = 0; other < size(); ++other) {
      if (posting(other).color != color) continue;
      if (other == rank) new_rank = static_cast<int>(members.size());
      members.push_back(members_[static_cast<std::size_t>(other)]);
    }
    const std::lock_guard lock(run_.mutex);
    std::shared_ptr<Group>& group = subgroups_[color];
    if (!group) group = std::make_shared<Group>(run_, std::move(members));
    return {group, new_rank};
  }

  // Waits until no rank reads postings any more. Every rank has entered and will come here, so an
  // abort need not (and, as others still read this rank's tensor, must not) end the wait.
  void leave() {
    std::unique_lock lock(run_.mutex);
    const std::int64_t round = round_;
    if (arrive()) subgroups_.clear();
    run_.changed.wait(lock, [&] { return round_ != round; });
  }

 private:
  bool arrive() {
    if (++arrived_ < size()) return false;
    arrived_ = 0;
    ++round_;
    run_.changed.notify_all();
    return true;
  }

  int returned_member() const {
    const auto member = std::find_if(members_.begin(), members_.end(), [&](int rank) {
      return run_.returned[static_cast<std::size_t>(rank)];
    });
    return member == members_.end() ? -1 : *member;
  }

  std::string find_disagreement() const {
    for (std::size_t rank = 1; rank < postings_.size(); ++rank) {
      if (postings_[rank].agrees_with(postings_[0])) continue;
      return fmt::format("rank {} {}, rank {} {}", members_[0], postings_[0].to_string(),
                         members_[rank], postings_[rank].to_string());
    }
    return {};
  }

  Run& run_;
  std::vector<int> members_;  // ranks of the whole run
  std::vector<Posting> postings_;
  std::int64_t round_ = 0;
  int arrived_ = 0;
  std::string disagreement_;
  std::map<int, std::shared_ptr<Group>> subgroups_;  // by colour, of the split in progress
};

class ThreadCommunicator final : public CheckedCommunicator {
 public:
  ThreadCommunicator(Run& run, std::shared_ptr<Group> group, int rank,
                     const ThreadCommunicator* split_from)
      : CheckedCommunicator(rank, group->size(), split_from), run_(run), group_(std::move(group)) {}

 private:
  // Each rank reduces its share of the elements and writes it to all ranks; nobody else touches
  // that share, so no copy of the tensor is needed.
  void reduce_all(void* data, DType dtype, std::int64_t count, Reduction reduction) const override {
    group_->enter(rank(), {.collective = Collective::kAllReduce,
                           .dtype = dtype,
                           .count = count,
                           .detail = static_cast<int>(reduction),
                           .data = data});
    const std::int64_t begin = count * rank() / size(), end = count * (rank() + 1) / size();
    const std::size_t offset = static_cast<std::size_t>(begin) * size_of(dtype);
    void* result = static_cast<std::byte*>(data) + offset;
    reduce_in_order(contributions(offset), dtype, reduction, end - begin, result);
    for (int other = 0; other < size(); ++other) {
      if (other == rank()) continue;
      std::memcpy(static_cast<std::byte*>(group_->posting(other).data) + offset, result,
                  static_cast<std::size_t>(end - begin) * size_of(dtype));
    }
    group_->leave();
  }

  void reduce_part(const void* whole, DType dtype, std::int64_t count, void* part) const override {
    group_->enter(rank(), {.collective = Collective::kReduceScatter,
                           .dtype = dtype,
                           .count = count,
                           .data = const_cast<void*>(whole)});
    const std::size_t offset = static_cast<std::size_t>(rank() * count) * size_of(dtype);
    reduce_in_order(contributions(offset), dtype, Reduction::kSum, count, part);
    group_->leave();
  }

  void gather_all(const void* part, std::size_t bytes, void* whole) const override {
    group_->enter(rank(), {.collective = Collective::kAllGather,
                           .count = static_cast<std::int64_t>(bytes),
                           .data = const_cast<void*>(part)});
    for (int other = 0; other < size(); ++other) {
      void* target = static_cast<std::byte*>(whole) + static_cast<std::size_t>(other) * bytes;
      if (target != part) std::memcpy(target, group_->posting(other).data, bytes);
    }
    group_->leave();
  }

  void send_from(int root, void* data, std::size_t bytes) const override {
    group_->enter(rank(), {.collective = Collective::kBroadcast,
                           .count = static_cast<std::int64_t>(bytes),
                           .detail = root,
                           .data = data});
    if (rank() != root) std::memcpy(data, group_->posting(root).data, bytes);
    group_->leave();
  }

  void wait_for_all() const override {
    group_->enter(rank(), {.collective = Collective::kBarrier});
    group_->leave();
  }

  std::vector<std::string> gather_strings(const std::string& mine) const override {
    group_->enter(rank(), {.collective = Collective::kAllGatherStrings, .text = &mine});
    std::vector<std::string> all;
    for (int other = 0; other < size(); ++other) all.push_back(*group_->posting(other).text);
    group_->leave();
    return all;
  }

  std::unique_ptr<Communicator> make_split(int color) const override {
    group_->enter(rank(), {.collective = Collective::kSplit, .color = color});
    const auto [group, new_rank] = group_->subgroup(rank());
    group_->leave();
    return std::make_unique<ThreadCommunicator>(run_, group, new_rank, this);
  }

  std::vector<const void*> contributions(std::size_t offset) const {
    std::vector<const void*> addresses;
    for (int other = 0; other < size(); ++other) {
      addresses.push_back(static_cast<const std::byte*>(group_->posting(other).data) + offset);
    }
    return addresses;
  }

  Run& run_;
  std::shared_ptr<Group> group_;
};

}  // namespace

void run_on_threads(int ranks, const std::function<void(const Communicator&)>& work) {
  POLYHEAD_CHECK(ranks > 0, "{} ranks", ranks);
  Run run;
  run.returned.assign(static_cast<std::size_t>(ranks), false);
  std::vector<int> members(static_cast<std::size_t>(ranks));
  std::iota(members.begin(), members.end(), 0);
  const auto world = std::make_shared<Group>(run, std::move(members));
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      bool failed = false;
      try {
        work(ThreadCommunicator(run, world, rank, nullptr));
      } catch (const Released&) {
        failed = true;
      } catch (...) {
        failures[static_cast<std::size_t>(rank)] = std::current_exception();
        failed = true;
      }
      run.end_rank(rank, failed);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace polyhead
