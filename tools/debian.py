#!/usr/bin/env python3
"""Debian's packages for the tests on a real Swarm and a real Kubernetes, each by its sum, unpacked beside the system and never installed.

    debian.py refresh [SET…]   write the list, debian.txt, or these sets of it, anew from Debian's archive of today

The sets are: `engine`, Docker Engine and what it calls, with its libraries; `base`, the files of a small system, which
becomes the base image of the tests; `seccomp`, what runc is compiled with; `cni`, the networks of Pods. apt-get fetches them with a
configuration of its own, so that neither the machine's package sources nor its packages matter, nor who asks. What the archive
has replaced since comes from Debian's own snapshot, by its sum.
"""
import hashlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

LIST = Path(__file__).resolve().with_suffix(".txt")
SOURCES = """\
deb [trusted=yes] http://deb.debian.org/debian bookworm main
deb [trusted=yes] http://deb.debian.org/debian-security bookworm-security main
"""
SETS = {
    "engine": """docker.io containerd runc tini iptables iproute2 libxtables12 libip4tc2 libip6tc2 libmnl0 libnftnl11
        libnetfilter-conntrack3 libnfnetlink0 libdevmapper1.02.1 libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblzma5 libzstd1
        liblz4-1 libselinux1 libudev1 libpcre2-8-0 libseccomp2 libbpf1 libelf1 libbsd0 libmd0 zlib1g""",
    "base": """base-files libc6 libc-bin libgcc-s1 coreutils dash grep sed tar gzip findutils libacl1 libattr1 libgmp10 libpcre2-8-0
        libselinux1 ca-certificates libssl3 zlib1g libzstd1 libbrotli1 libcom-err2 libkrb5support0 libk5crypto3 libkeyutils1
        libkrb5-3 libgssapi-krb5-2 libunistring2 libidn2-0 libnettle8 libhogweed6 libffi8 libp11-kit0 libtasn1-6 libgnutls30
        libdb5.3 libsasl2-2 libldap-2.5-0 libnghttp2-14 libpsl5 librtmp1 libssh2-1 libcurl4 liblzma5 libbz2-1.0""",
    "seccomp": "libseccomp-dev",
    "cni": "containernetworking-plugins",
}


class Gone(Exception):
    """A package cannot be had as it is pinned."""


def pins(of):
    """The packages of a set: (package, version, sha256, sha1)."""
    rows = [line.split() for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(row[1:]) for row in rows if row[0] == of]


def pin(of):
    """A short name of a set as it is listed now."""
    return hashlib.sha256(repr(pins(of)).encode()).hexdigest()[:12]


class Apt:
    """apt-get with its own sources, lists and state below a folder."""

    def __init__(self, folder):
        self.folder = folder
        for part in ["state/lists/partial", "cache/archives/partial", "debs"]:
            (folder / part).mkdir(parents=True)
        (folder / "sources.list").write_text(SOURCES)
        (folder / "status").touch()
        options = {"Dir::State": folder / "state", "Dir::State::status": folder / "status", "Dir::Cache": folder / "cache",
                   "Dir::Etc::sourcelist": folder / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
                   "APT::Architecture": "amd64", "APT::Architectures": "amd64", "APT::Sandbox::User": "root"}
        self.options = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self("apt-get", "-q", "update")

    def __call__(self, program, *arguments):
        argv = [program, *self.options, *arguments]
        done = subprocess.run(argv, cwd=self.folder / "debs", stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise Gone(f"`{program} {' '.join(arguments[:3])}` failed: {done.stderr.strip()[-600:]}")
        return done.stdout


def fetch(of, work):
    """Download every package of a set below `work`, and compare its sum; gives the files."""
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise Gone(f"`{program}` is not here: only Debian and its relatives can unpack Debian's packages")
    wanted = pins(of)
    apt = Apt(work / "apt")
    known = {tuple(line.split()) for line in apt("apt-cache", "madison", *(p for p, *_ in wanted)).splitlines()}
    archive = {(row[0], row[2]) for row in known}
    apt("apt-get", "-q", "download", *(f"{p}={v}" for p, v, *_ in wanted if (p, v) in archive))
    debs = apt.folder / "debs"
    for package, version, _, sha1 in wanted:
        if (package, version) not in archive:
            from_snapshot(debs / f"{package}.deb", package, version, sha1)
    sums = {hashlib.sha256(deb.read_bytes()).hexdigest(): deb for deb in debs.iterdir()}
    for package, version, sha256, _ in wanted:
        if sha256 not in sums:
            raise Gone(f"the package {package} {version} is not the pinned file and is not used")
    return [sums[sha256] for _, _, sha256, _ in wanted]


def from_snapshot(into, package, version, sha1):
    """Everything that was ever in Debian's archive, by its sum."""
    address = f"https://snapshot.debian.org/file/{sha1}"
    try:
        with urllib.request.urlopen(address, timeout=60) as reply, open(into, "wb") as out:
            shutil.copyfileobj(reply, out)
    except OSError as error:
        raise Gone(f"Debian's archive has {package} {version} no more, and {address} does not give it ({error}): "
                   "`python3 tools/debian.py refresh` takes what the archive has today") from None


def unpack(debs, root):
    """Unpack packages into a folder as a merged /usr: /bin, /lib and /sbin are links."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        into = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", root,
                "--exclude=./usr/share/doc", "--exclude=./usr/share/man", "--exclude=./usr/share/locale"]
        untarred = subprocess.run(into, stdin=unpacked.stdout)
        if unpacked.wait() or untarred.returncode:
            raise Gone(f"{deb.name} cannot be unpacked")


def refresh(wanted):
    with tempfile.TemporaryDirectory() as work:
        apt = Apt(Path(work) / "apt")
        lines = ["# set, package, version, sha256, sha1; written by debian.py refresh"]
        for of, packages in SETS.items():
            if of not in wanted:
                lines += [" ".join([of, *pin]) for pin in pins(of)]
                continue
            apt("apt-get", "-q", "download", *packages.split())
            for package in packages.split():
                deb, = (apt.folder / "debs").glob(f"{package}_*.deb")
                version = subprocess.check_output(["dpkg-deb", "--field", deb, "Version"], text=True).strip()
                content = deb.read_bytes()
                lines.append(" ".join([of, package, version, hashlib.sha256(content).hexdigest(), hashlib.sha1(content).hexdigest()]))
        LIST.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] != ["refresh"] or not set(sys.argv[2:]) <= set(SETS):
        sys.exit(__doc__)
    try:
        refresh(sys.argv[2:] or list(SETS))
    except Gone as why:
        sys.exit(f"debian: {why}")
