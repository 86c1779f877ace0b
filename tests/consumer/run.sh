#!/usr/bin/env bash
# Installs BUILD_DIR into a temporary prefix, and there builds and runs the programs of this folder: by find_package, and the
# C one by pkg-config as well. Usage: run.sh BUILD_DIR C_COMPILER CXX_COMPILER
set -euo pipefail
build=$(realpath "$1")
export CC=$2 CXX=$3
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "$here/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >"$work/install.log" || { cat "$work/install.log" && exit 1; }
echo 'installed headers are those of runtime/include/tandem and nothing else'
diff -r "$prefix/include" "$root/runtime/include"

echo 'installed files name neither the source nor the build folder'
if grep -rIlF -e "$root" "$prefix"; then exit 1; fi

echo 'find_package(Tandem)'
cmake -S "$here" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release >"$work/configure.log" ||
  { cat "$work/configure.log" && exit 1; }
cmake --build "$work/build" >"$work/build.log" || { cat "$work/build.log" && exit 1; }
"$work/build/consumer_c"
"$work/build/consumer_borrow"
"$work/build/consumer_cpp"

echo 'pkg-config tandem'
pc_dir=$(dirname "$(find "$prefix" -name tandem.pc)")
export PKG_CONFIG_PATH=$pc_dir
read -ra flags <<<"$(pkg-config --cflags --libs tandem)"
"$CC" -std=c11 -o "$work/by_pkg_config" "$here/attend.c" "${flags[@]}" -lm -Wl,-rpath,"$(pkg-config --variable=libdir tandem)"
"$work/by_pkg_config" | tail -n 1
