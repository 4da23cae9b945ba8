//! The images of the tests: Backstay's by the repository's Dockerfile, from the program under test and the pinned tools; and a
//! `mongo:6` from the pinned server. Both are built once for each content, on Docker Engine itself, and kept in the tools' cache.

use super::{super::Scratch, super::tools, node::Node};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Name of Backstay's image, as in the stack files.
pub const BACKSTAY: &str = "backstay:latest";
/// Name of MongoDB's image, as in the stack files; `sh` and the usual small programs are in it.
pub const MONGO: &str = "mongo:6";
/// Name of a small system that sleeps.
pub const SLEEPER: &str = "backstay-test/sleeper:1";
/// What all are built on.
const BASE: &str = "debian:bookworm-slim";
const MONGO_DOCKERFILE: &str = "FROM debian:bookworm-slim\nCOPY mongod /usr/bin/mongod\nRUN mkdir -p /data/db\n\
                                VOLUME /data/db\nEXPOSE 27017\nCMD [\"mongod\"]\n";
/// Tarballs of earlier programs that are kept: other checkouts on this machine use them in turn.
const KEPT: usize = 4;

/// Tarballs of the images, for `docker load`; what is not in the cache yet is built on a node first.
pub fn tarballs(builder: &Node) -> Vec<PathBuf> {
    vec![mongo(builder), backstay(builder)]
}

/// The tarball of Backstay's image.
pub fn backstay(builder: &Node) -> PathBuf {
    cached("backstay", key(), builder, build)
}

/// The tarball of a small system that sleeps: what users run, and what holds the network of each Pod.
pub fn sleeper(builder: &Node) -> PathBuf {
    cached(
        "sleeper",
        short(blake3::Hasher::new().update(tools_and_base().as_bytes())),
        builder,
        build_sleeper,
    )
}

/// The tarball of MongoDB's image.
pub fn mongo(builder: &Node) -> PathBuf {
    cached("mongo", mongo_key(), builder, build_mongo)
}

fn build_sleeper(builder: &Node, context: &Path) -> String {
    let text = format!("FROM {BASE}\nCMD [\"sleep\", \"infinity\"]\n");
    fs::write(context.join("Dockerfile"), text).unwrap();
    builder.docker(["build", "--quiet", "--tag", SLEEPER, self::text(context)]);
    SLEEPER.to_owned()
}

type Build = fn(&Node, &Path) -> String;

fn cached(name: &str, key: String, builder: &Node, build: Build) -> PathBuf {
    let folder = cache().join("image-1");
    fs::create_dir_all(&folder).unwrap();
    let tarball = folder.join(format!("{name}-{key}.tar"));
    if !tarball.exists() {
        if builder.docker(["image", "ls", "--quiet", BASE]).is_empty() {
            builder.docker(["import", text(&base()), BASE]);
        }
        let context = Scratch::new("image");
        let image = build(builder, &context);
        let fresh = tempfile::Builder::new().prefix(".fresh-").tempfile_in(&folder).unwrap().into_temp_path();
        builder.docker(["save", "--output", text(&fresh), &image]);
        fresh.persist(&tarball).unwrap();
        forget_old(&folder, name);
    }
    tarball
}

fn build(builder: &Node, context: &Path) -> String {
    let parts = context.join("parts");
    fs::create_dir(&parts).unwrap();
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(parts.join("backstay")).arg(env!("CARGO_BIN_EXE_backstay"));
    let output = strip.output().expect("strip, of binutils, starts");
    super::said(&strip, &output);
    for name in ["rclone", "mongodump", "mongorestore"] {
        fs::copy(tools::tool(name), parts.join(name)).unwrap();
    }
    builder.docker([
        "build",
        "--quiet",
        "--build-arg",
        "PARTS=local",
        "--tag",
        BACKSTAY,
        "--file",
        text(&dockerfile()),
        text(context),
    ]);
    BACKSTAY.to_owned()
}

fn build_mongo(builder: &Node, context: &Path) -> String {
    fs::write(context.join("Dockerfile"), MONGO_DOCKERFILE).unwrap();
    fs::copy(tools::tool("mongod"), context.join("mongod")).unwrap();
    builder.docker(["build", "--quiet", "--tag", MONGO, text(context)]);
    MONGO.to_owned()
}

/// A name for all that the image is made of. The pinned tools are known by the folder that they lie in.
fn key() -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(tools_and_base().as_bytes()).update(&fs::read(dockerfile()).unwrap());
    let mut program = fs::File::open(env!("CARGO_BIN_EXE_backstay")).unwrap();
    let mut block = vec![0; 1 << 20];
    loop {
        match program.read(&mut block).unwrap() {
            0 => return short(&hash),
            read => _ = hash.update(&block[..read]),
        }
    }
}

fn mongo_key() -> String {
    short(blake3::Hasher::new().update(tools_and_base().as_bytes()).update(MONGO_DOCKERFILE.as_bytes()))
}

fn short(hash: &blake3::Hasher) -> String {
    hash.finalize().to_hex()[..16].to_owned()
}

fn tools_and_base() -> String {
    let tools = ["rclone", "mongodump", "mongorestore", "mongod"]
        .map(|name| fs::canonicalize(tools::tool(name)).unwrap());
    format!("{tools:?} {:?}", base())
}

fn dockerfile() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile")
}

fn base() -> PathBuf {
    let pinned = fs::read_dir(cache())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("base-image-"));
    let newest = pinned.max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok());
    newest.expect("`make setup` makes the base image").path().join("base.tar")
}

fn cache() -> PathBuf {
    tools::bin().parent().expect("the tools are in a folder of the cache").to_owned()
}

fn forget_old(folder: &Path, name: &str) {
    let ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(name);
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().flatten().filter(ours).collect();
    all.sort_by_key(|entry| std::cmp::Reverse(entry.metadata().and_then(|meta| meta.modified()).ok()));
    for old in all.into_iter().skip(KEPT) {
        let _ = fs::remove_file(old.path());
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}
