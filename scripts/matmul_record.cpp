#include "scripts/matmul_record.h"

#include "framework/files/durable_file.h"
#include "framework/files/mapped_file.h"
#include "framework/ops/matmul.h"
#include "scripts/rank_0.h"

namespace polyhead {

void settle_matmuls(const std::filesystem::path& run, const Communicator& world, Device device,
                    const std::function<void()>& rehearse) {
  if (ops::matmul_choices(device).empty()) return;
  const std::filesystem::path record = run / kMatmulRecord;
  const std::string recorded = told_by_rank_0(world, [&] {
    return std::filesystem::exists(record) ? std::string(MappedFile(record).text()) : "";
  });
  if (!recorded.empty()) {
    run_on_all_ranks(world, [&] { ops::adopt_matmul_choices(device, recorded, record.string()); });
  }
  ops::set_matmul_measuring(device, true);
  rehearse();
  ops::set_matmul_measuring(device, false);
  const std::string chosen = told_by_rank_0(world, [&] { return ops::matmul_choices(device); });
  run_on_all_ranks(world, [&] {
    ops::adopt_matmul_choices(device, chosen, "rank 0's choices");
    if (world.rank() != 0 || chosen == recorded) return;
    std::filesystem::create_directories(run);
    replace_durably(record, chosen);
  });
}

}  // namespace polyhead
