#!/usr/bin/env bash
# Fails when objects built for different ISAs define the same weak symbol: the linker keeps one of them at random, and an
# AVX-512 body may then run on a machine that has only AVX2.
# Usage: check_isa_symbols.sh BASELINE.o... -- AVX2.o... -- AVX512.o... (objects of a Release build; one group per ISA)
set -euo pipefail

weak_symbols() { # objects of one group -> names, each once. DW.ref.*: data that only the exception tables point to.
  nm --defined-only "$@" | awk 'NF == 3 && $2 ~ /^[WwVvu]$/ && $3 !~ /^DW\.ref\./ {print $3}' | sort -u
}

groups=0
all=''
group=()
for argument in "$@" --; do
  if [[ $argument != -- ]]; then
    group+=("$argument")
  elif [[ ${#group[@]} -gt 0 ]]; then
    all+=$(weak_symbols "${group[@]}")$'\n'
    groups=$((groups + 1))
    group=()
  fi
done
if [[ $groups -lt 2 ]]; then
  echo 'check_isa_symbols.sh: give the objects of at least two ISAs, with -- between them' >&2
  exit 2
fi
shared=$(sort <<<"$all" | sed '/^$/d' | uniq -d)
if [[ -n $shared ]]; then
  echo 'Weak symbols that objects of different ISAs share:'
  c++filt <<<"$shared"
  exit 1
fi
echo "isa symbols ok: $groups groups"
