#!/usr/bin/env bash
# Fails when a compiler has dropped the requests for memory from a scan of codes: GCC does so with functions that only
# prefetch, unless they are inlined, and no result tells.
# Usage: check_prefetches.sh OBJECT.o... (of a Release build; those without a scan are passed over)
set -euo pipefail

checked=0
for object in "$@"; do
  scans=$(objdump -d --no-show-raw-insn "$object" | awk '
    /^[0-9a-f]+ </ { in_scan = $2 ~ /4scanERKNS[0-9]*_11SketchQuery/; if (in_scan) scans = scans " " 0 }
    in_scan && /prefetch/ { asks = 1 }
    END { if (scans != "") print asks + 0 }')
  if [[ -z $scans ]]; then continue; fi
  if [[ $scans != 1 ]]; then
    echo "$object: scan() asks for no memory ahead"
    exit 1
  fi
  checked=$((checked + 1))
done
if [[ $checked -eq 0 ]]; then
  echo 'check_prefetches.sh: none of the objects has a scan()' >&2
  exit 2
fi
echo "prefetches ok: $checked scans"
