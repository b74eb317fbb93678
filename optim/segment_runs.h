// Neighbouring segments of a ParameterStore that agree in some property, as one range of the flat
// buffers: one pass or one collective in place of many. The gaps inside a range hold zeros.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "framework/parameters/parameter_store.h"

namespace polyhead {

template <class Property>
struct SegmentRun {
  Property property;
  std::int64_t begin;  // elements of the flat buffers
  std::int64_t end;
};

// `property_of` maps a Parameter to something that can be compared, e.g. whether it decays.
template <class PropertyOf>
auto segment_runs(const ParameterStore& store, PropertyOf property_of) {
  using Property = decltype(property_of(std::declval<const Parameter&>()));
  std::vector<SegmentRun<Property>> runs;
  for (const Segment& segment : store.placed_segments()) {
    const Property property = property_of(*segment.parameter);
    const std::int64_t end = segment.begin + segment.size;
    if (!runs.empty() && runs.back().property == property) {
      runs.back().end = end;
    } else {
      runs.push_back({property, segment.begin, end});
    }
  }
  return runs;
}

// The parts of the runs that lie in `range`.
template <class PropertyOf>
auto segment_runs_in(const FlatRange& range, const ParameterStore& store, PropertyOf property_of) {
  auto runs = segment_runs(store, property_of);
  for (auto& run : runs) {
    const FlatRange part = overlap({run.begin, run.end}, range);
    run.begin = part.begin;
    run.end = part.end;
  }
  std::erase_if(runs, [](const auto& run) { return run.begin == run.end; });
  return runs;
}

// Those whose optimizer state this rank holds.
template <class PropertyOf>
auto segment_runs_in_shard(const ParameterStore& store, PropertyOf property_of) {
  return segment_runs_in(store.shard(), store, property_of);
}

}  // namespace polyhead
