"""What a site holds, in a form that can be compared after a restore. Standard library only.

It shares nothing with the program that it judges: files are read from the file system, documents from the server.
"""
import hashlib
import os
import stat


def tree(root):
    """{path: what a backup must keep of it}, the root itself as `.`."""
    root, found, inodes = os.fsencode(root), {}, {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in [b""] * (folder == root) + sorted(folders + files):
            path = os.path.join(folder, name) if name else folder
            found[os.path.relpath(path, root)] = entry(path, os.path.relpath(path, root), inodes)
    return found


def entry(path, relative, inodes):
    info = os.lstat(path)
    regular, link = stat.S_ISREG(info.st_mode), stat.S_ISLNK(info.st_mode)
    same = None
    if not stat.S_ISDIR(info.st_mode) and info.st_nlink > 1:
        same = inodes.setdefault((info.st_dev, info.st_ino), relative)
    return {
        "type and mode": oct(info.st_mode),
        "owner": (info.st_uid, info.st_gid),
        "time": info.st_mtime_ns,
        "content": content(path) if regular else os.readlink(path) if link else None,
        "sparse": regular and info.st_blocks * 512 + 65536 <= info.st_size,
        "xattrs": {name: os.getxattr(path, name, follow_symlinks=False)
                   for name in sorted(os.listxattr(path, follow_symlinks=False))},
        "hard link": same,
    }


def content(path):
    digest = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def database(client, skip=("admin", "config", "local")):
    """{thing: digest or value}: documents, options and indexes of every collection, and the users."""
    found = {}
    for name in (one["name"] for one in client.command("admin", listDatabases=1, nameOnly=True)["databases"]):
        if name in skip:
            continue
        for listed in client.command(name, listCollections=1)["cursor"]["firstBatch"]:
            one = listed["name"]
            if one.startswith("system."):
                continue
            where = f"{name}.{one}"
            found[f"{where} options"] = (listed["type"], repr(listed["options"]))
            rows = client.find(name, one)
            found[f"{where} documents"] = len(rows)
            found[f"{where} content"] = hashlib.blake2b(repr(sorted(map(repr, rows))).encode()).hexdigest()[:40]
            if listed["type"] == "collection":
                indexes = client.command(name, listIndexes=one)["cursor"]["firstBatch"]
                found[f"{where} indexes"] = repr(sorted(map(repr, indexes)))
    for user in client.command("admin", usersInfo={"forAllDBs": True}, showCredentials=True)["users"]:
        found[f"user {user['_id']}"] = repr({key: value for key, value in user.items() if key != "userId"})
    return found


def differences(expected, found):
    """One line for each difference."""
    lines = [f"{key!r} is missing" for key in expected if key not in found]
    lines += [f"{key!r} is new" for key in found if key not in expected]
    for key in expected.keys() & found.keys():
        a, b = expected[key], found[key]
        if isinstance(a, dict):
            for what in a:
                # A restored file may be sparser than it was, never less so.
                if a[what] != b[what] and not (what == "sparse" and b[what]):
                    lines.append(f"{key!r}: {what} was {a[what]!r}, is {b[what]!r}")
        elif a != b:
            lines.append(f"{key!r} was {a!r}, is {b!r}")
    return sorted(lines)
