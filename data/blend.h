// Which source gives the sample at a position, for several weighted sources.
//
// Megatron's rule: with counts c of the samples given so far, position i goes to the source with
// the largest weight * max(i, 1) - c, the first of equals. So after any number of positions each
// source is within one sample of its share.
//
// The first `period` positions are worked out once (16 bytes each) and repeat from there on, so
// any position costs O(1). Over a period a source's share is exact to one sample.
#pragma once

#include <cstdint>
#include <vector>

namespace polyhead {

class Blend {
 public:
  // weights: positive, of any sum.
  Blend(const std::vector<double>& weights, std::int64_t period);

  struct Entry {
    std::int64_t source = 0;
    std::int64_t index = 0;  // of the sample within the source
  };
  Entry at(std::int64_t position) const;

 private:
  std::vector<Entry> pattern_;
  std::vector<std::int64_t> counts_;  // samples of each source in one period
};

// Weights over their sum.
std::vector<double> normalized(const std::vector<double>& weights);

}  // namespace polyhead
