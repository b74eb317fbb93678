#include "framework/comm/mpi/control_channel.h"

#include <cstring>

#include "framework/comm/mpi/failure.h"

namespace polyhead::mpi {
namespace {

constexpr int kTag = 0;

struct Header {
  ControlKind kind;
  int inquiry;
  WaitState state;
};

}  // namespace

ControlChannel::ControlChannel() {
  require_success(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
}

ControlChannel::~ControlChannel() {
  for (Sending& sending : sending_) MPI_Wait(&sending.request, MPI_STATUS_IGNORE);
  MPI_Comm_free(&comm_);
}

void ControlChannel::send_to_all_others(const ControlMessage& message) {
  for (int other = 0; other < size_; ++other) {
    if (other != rank_) send(other, message);
  }
}

void ControlChannel::send(int rank, const ControlMessage& message) {
  const Header header{message.kind, message.inquiry, message.state};
  Sending& sending = sending_.emplace_back();
  sending.bytes.assign(reinterpret_cast<const char*>(&header), sizeof(header));
  sending.bytes += message.text;
  require_success(MPI_Isend(sending.bytes.data(), static_cast<int>(sending.bytes.size()), MPI_BYTE,
                            rank, kTag, comm_, &sending.request),
                  "MPI_Isend");
}

std::optional<ControlMessage> ControlChannel::receive() {
  while (!sending_.empty()) {
    int sent = 0;
    require_success(MPI_Test(&sending_.front().request, &sent, MPI_STATUS_IGNORE), "MPI_Test");
    if (sent == 0) break;
    sending_.pop_front();
  }
  int arrived = 0;
  MPI_Status status;
  require_success(MPI_Iprobe(MPI_ANY_SOURCE, kTag, comm_, &arrived, &status), "MPI_Iprobe");
  if (arrived == 0) return std::nullopt;
  int length = 0;
  MPI_Get_count(&status, MPI_BYTE, &length);
  std::string bytes(static_cast<std::size_t>(length), '\0');
  require_success(
      MPI_Recv(bytes.data(), length, MPI_BYTE, status.MPI_SOURCE, kTag, comm_, MPI_STATUS_IGNORE),
      "MPI_Recv");
  Header header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  return ControlMessage{header.kind, header.inquiry, header.state, bytes.substr(sizeof(header))};
}

}  // namespace polyhead::mpi
