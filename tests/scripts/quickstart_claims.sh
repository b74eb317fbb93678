#!/usr/bin/env bash
# Whether a quickstart showed what the README says of it: quickstart_claims.sh [RUNS/quickstart.json]
set -euo pipefail

table=${1:-runs/quickstart.json}
if [ ! -r "$table" ]; then
  echo "quickstart_claims.sh: $table cannot be read; run scripts/quickstart.sh" >&2
  exit 2
fi

awk '
  function value(run, key) {
    if ((run, key) in values) return values[run, key]
    print "FAILED: no " key " of " run
    exit 1
  }
  function claim(text, holds) {
    print (holds ? "holds: " : "FAILED: ") text
    if (!holds) failed = 1
  }

  # Each key has a line of its own: "key": value,
  match($0, /^ *"[a-z_]+": /) {
    key = substr($0, RSTART, RLENGTH)
    gsub(/[ ":]/, "", key)
    text = substr($0, RLENGTH + 1)
    gsub(/[",]/, "", text)
    if (key == "checkpoint") {
      sub(/.*\//, "", text)
      run = text
    } else if (run != "") {
      values[run, key] = text
    }
  }

  END {
    parent = value("quickstart_mha", "bits_per_byte")
    continued = value("quickstart_mha_continued", "bits_per_byte")
    converted = value("quickstart_gqa_converted", "bits_per_byte")
    uptrained = value("quickstart_gqa_uptrained", "bits_per_byte")
    gap = converted - continued
    recovered = gap > 0 ? 100 * (converted - uptrained) / gap : 0
    claim(sprintf("the parent needs %.4f bits per byte, fewer than xz -9 (2.47)", parent),
          0 < parent && parent < 2.47)
    claim(sprintf("converting it to GQA costs %.4f bits per byte, at least 0.02", converted - parent),
          converted - parent >= 0.02)
    claim(sprintf("uptraining recovers %.1f %% of the gap to the continued parent, at least 80 %%",
                  recovered), recovered >= 80)
    bytes["mha"] = 4096; bytes["gqa_converted"] = bytes["gqa_uptrained"] = 1024
    bytes["mqa_converted"] = bytes["mqa_uptrained"] = 512
    for (name in bytes) {
      found = value("quickstart_" name, "kv_cache_bytes_per_token")
      claim(sprintf("the KV cache of %s takes %d bytes a token, which should be %d", name, found,
                    bytes[name]), found == bytes[name])
    }
    exit failed
  }
' "$table"
