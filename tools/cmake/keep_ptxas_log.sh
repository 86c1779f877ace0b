#!/bin/sh
# Compiler launcher for nvcc: runs `$@`, keeps what ptxas says about registers and spills in <object>.ptxas, where
# tools/check_ptxas.py reads it, and passes everything else on.
object='' previous=''
for argument in "$@"; do
  if [ "$previous" = -o ]; then object=$argument; fi
  previous=$argument
done
log=$object.ptxas
case $object in
  *.o) ;;
  *) exec "$@" ;; # not a compilation
esac
rm -f "$log"
"$@" 2>"$log.part"
status=$?
ptxas='^ptxas info\|^ *[0-9]* bytes stack frame,'
grep -v "$ptxas" "$log.part" >&2
if [ $status -eq 0 ]; then grep "$ptxas" "$log.part" >"$log"; fi
rm -f "$log.part"
exit $status
