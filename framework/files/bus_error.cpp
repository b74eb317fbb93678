#include "framework/files/bus_error.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <string_view>

#include "framework/comm/launcher.h"
#include "framework/exit_code.h"

namespace polyhead {
namespace {

// What runs in the handler takes no lock and no memory: another thread may hold them for ever.

int milliseconds_to_wait = 0;
std::atomic_flag told = ATOMIC_FLAG_INIT;

std::uintptr_t take_hexadecimal(std::string_view& text) {
  std::uintptr_t number = 0;
  while (!text.empty()) {
    const char digit = text.front();
    const bool decimal = '0' <= digit && digit <= '9', letter = 'a' <= digit && digit <= 'f';
    if (!decimal && !letter) break;
    number = number * 16 + static_cast<std::uintptr_t>(decimal ? digit - '0' : digit - 'a' + 10);
    text.remove_prefix(1);
  }
  return number;
}

// The path in a line of /proc/self/maps ("7f12a000-7f12b000 r--s 00000000 fe:01 131 /data/a.bin")
// where its range holds the address, else nothing.
std::string_view path_of_range(std::string_view line, std::uintptr_t address) {
  const std::uintptr_t begin = take_hexadecimal(line);
  line.remove_prefix(std::min<std::size_t>(1, line.size()));
  const std::uintptr_t end = take_hexadecimal(line);
  const std::size_t path = line.find('/');
  if (address < begin || address >= end || path == std::string_view::npos) return {};
  return line.substr(path);
}

// Reads /proc/self/maps into `buffer`, line by line; nothing where the address is in no file.
std::string_view mapped_path(std::uintptr_t address, std::array<char, 8192>& buffer) {
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (maps < 0) return {};
  std::size_t filled = 0;
  std::string_view found;
  while (found.empty()) {
    const ssize_t count = ::read(maps, buffer.data() + filled, buffer.size() - filled);
    if (count <= 0) break;
    std::string_view text(buffer.data(), filled + static_cast<std::size_t>(count));
    for (std::size_t end; found.empty() && (end = text.find('\n')) != std::string_view::npos;
         text.remove_prefix(end + 1)) {
      found = path_of_range(text.substr(0, end), address);
    }
    if (!found.empty()) break;
    filled = text.size();
    std::copy(text.begin(), text.end(), buffer.begin());
  }
  ::close(maps);
  return found;
}

void print(std::string_view text) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

void handle(int signal, siginfo_t* info, void*) {
  if (told.test_and_set()) {
    while (true) ::pause();
  }
  std::array<char, 8192> buffer;
  const std::string_view path =
      mapped_path(reinterpret_cast<std::uintptr_t>(info->si_addr), buffer);
  if (path.empty()) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);  // acts when this handler returns
    return;
  }
  ::poll(nullptr, 0, milliseconds_to_wait);
  print("polyhead: error: ");
  print(path);
  print(" was cut short while it was in use, or its disk fails; put it back and start again\n");
  ::_exit(kExitFailure);
}

bool install() {
  // mpirun takes a second or two to end the others when rank 0 has told it.
  milliseconds_to_wait = launched_rank() == 0 ? 0 : 3000;
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigfillset(&action.sa_mask);  // none, such as the launcher's TERM, ends the wait early
  return sigaction(SIGBUS, &action, nullptr) == 0;
}

}  // namespace

void explain_bus_errors() {
  [[maybe_unused]] static const bool installed = install();
}

}  // namespace polyhead
