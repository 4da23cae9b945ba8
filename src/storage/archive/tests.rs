use super::{
    broken::{Broken, FeedError},
    contents::{Contents, Kind},
    filter::{Filter, Internal, Rename},
    namespace::Namespace,
    parser::Parser,
};
use mongodb::bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use proptest::prelude::*;

/// What a test archive is made of.
#[derive(Default)]
struct Builder {
    bytes: Vec<u8>,
    boundaries: Vec<usize>,
}

const END: [u8; 4] = [0xff; 4];

impl Builder {
    fn new(namespaces: &[(&str, &str, &str)]) -> Self {
        let mut new = Self::default();
        new.bytes.extend([0x6d, 0xe2, 0x99, 0x81]);
        new.document(&doc! {"concurrent_collections": 4, "version": "0.1", "server_version": "6.0.5", "tool_version": "100.7.0"});
        for (ns, kind, metadata) in namespaces {
            let ns = Namespace::split(ns).unwrap();
            new.document(&doc! {"db": ns.database, "collection": ns.collection, "metadata": *metadata, "size": 0, "type": *kind});
        }
        new.bytes.extend(END);
        new.boundaries.push(new.bytes.len());
        new
    }

    fn document(&mut self, document: &Document) -> Vec<u8> {
        let raw = RawDocumentBuf::try_from(document).unwrap().into_bytes();
        self.bytes.extend(&raw);
        raw
    }

    fn block(&mut self, ns: &str, documents: &[Document]) -> u64 {
        let ns = Namespace::split(ns).unwrap();
        self.document(&doc! {"db": ns.database, "collection": ns.collection, "EOF": false, "CRC": 0i64});
        let all: Vec<u8> = documents.iter().flat_map(|d| self.document(d)).collect();
        self.bytes.extend(END);
        self.boundaries.push(self.bytes.len());
        crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &all)
    }

    fn close(&mut self, ns: &str, crc: u64) {
        let ns = Namespace::split(ns).unwrap();
        self.document(
            &doc! {"db": ns.database, "collection": ns.collection, "EOF": true, "CRC": crc.cast_signed()},
        );
        self.bytes.extend(END);
        self.boundaries.push(self.bytes.len());
    }
}

fn entry(second: u32, op: &str, ns: &str, o: Document) -> Document {
    doc! {"op": op, "ns": ns, "o": o, "ts": Bson::Timestamp(Timestamp { time: second, increment: 1 })}
}

const INDEXES: &str = r#"{"options":{},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],"uuid":"0a","collectionName":"one"}"#;

/// Two collections whose blocks interleave, an empty one, a view, a time series, the oplog.
fn archive() -> Builder {
    let mut new = Builder::new(&[
        ("a.one", "collection", INDEXES),
        ("b.two", "collection", ""),
        ("a.empty", "", ""),
        ("a.view", "view", r#"{"options":{"viewOn":"one","pipeline":[]},"indexes":[]}"#),
        ("a.ts", "timeseries", ""),
        (".oplog", "", ""),
    ]);
    let documents: Vec<_> = (0..5).map(|i| doc! {"_id": i, "text": "x".repeat(10 * i as usize)}).collect();
    new.block("a.one", &documents[..2]);
    let two = new.block("b.two", &[doc! {"_id": 9}]);
    new.block("a.one", &documents[2..]);
    for ns in ["a.empty", "a.view"] {
        let crc = new.block(ns, &[]);
        new.close(ns, crc);
    }
    new.close("b.two", two);
    let ts = new.block("a.system.buckets.ts", &[doc! {"_id": 1, "data": {}}]);
    let raw = |d: &Document| RawDocumentBuf::try_from(d).unwrap().into_bytes();
    let all: Vec<u8> = documents.iter().flat_map(raw).collect();
    new.close("a.one", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &all));
    new.close("a.system.buckets.ts", ts);
    let oplog = new.block(
        ".oplog",
        &[
            entry(7, "n", "", doc! {}),
            entry(8, "i", "a.one", doc! {"_id": 77}),
            entry(9, "d", "b.two", doc! {"_id": 9}),
        ],
    );
    new.close(".oplog", oplog);
    new
}

fn run(bytes: &[u8], pieces: &[usize], filter: Filter) -> Result<(Contents, Vec<u8>), Broken> {
    let mut out = Vec::new();
    let mut sink = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok(())
    };
    let mut parser = Parser::new(filter);
    let mut rest = bytes;
    let mut sizes = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
        rest = later;
        parser.feed(piece, &mut sink).map_err(|e| match e {
            FeedError::Broken(broken) => broken,
            FeedError::Sink(failure) => panic!("{failure}"),
        })?;
    }
    let contents = parser.finish()?;
    Ok((contents, out))
}

fn plain(bytes: &[u8]) -> Result<Contents, Broken> {
    run(bytes, &[], Filter::everything()).map(|(contents, _)| contents)
}

fn some() -> Filter {
    Filter {
        include: vec!["a".parse().unwrap()],
        renames: vec![Rename::parse("a.one", "a.uno").unwrap(), Rename::parse("a", "z").unwrap()],
        internal: Internal::OnRequest { users: false, config: false },
        ..Filter::everything()
    }
}

#[test]
fn a_whole_archive_is_counted_and_passed_on_as_it_is() {
    let archive = archive();
    let (contents, out) = run(&archive.bytes, &[], Filter::everything()).unwrap();
    assert_eq!(out, archive.bytes);
    let seen: Vec<_> = contents
        .namespaces
        .iter()
        .map(|e| (e.namespace.to_string(), e.kind, e.documents, e.touched))
        .collect();
    assert_eq!(
        seen,
        [
            ("a.one".to_owned(), Kind::Collection, 5, true),
            ("b.two".to_owned(), Kind::Collection, 1, true),
            ("a.empty".to_owned(), Kind::Collection, 0, false),
            ("a.view".to_owned(), Kind::View, 0, false),
            ("a.ts".to_owned(), Kind::Timeseries, 1, false),
        ]
    );
    assert_eq!(contents.namespaces[0].metadata.uuid, "0a");
    assert_eq!(contents.namespaces[0].metadata.indexes[0].name, "_id_");
    let oplog = contents.oplog.unwrap();
    assert_eq!((oplog.first, oplog.last, oplog.entries), ((7, 1), (9, 1), 3));
    assert_eq!(contents.bytes, archive.bytes.len() as u64);
}

#[test]
fn every_cut_is_found() {
    let archive = archive();
    for cut in 0..archive.bytes.len() {
        let error = plain(&archive.bytes[..cut]).unwrap_err();
        assert_eq!(error.offset, cut as u64, "cut at {cut}: {error}");
        let at_boundary = archive.boundaries.contains(&cut);
        assert_eq!(error.problem.contains("never closed"), at_boundary, "cut at {cut}: {error}");
    }
}

#[test]
fn bytes_after_the_end_are_found() {
    let mut bytes = archive().bytes;
    bytes.push(0);
    assert!(plain(&bytes).is_err());
    let twice = [archive().bytes, archive().bytes].concat();
    assert!(plain(&twice).is_err());
}

#[test]
fn every_flipped_bit_in_a_block_is_found() {
    let archive = archive();
    for at in archive.boundaries[0]..archive.bytes.len() {
        for bit in 0..8 {
            let mut bytes = archive.bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(plain(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn flips_in_the_prelude_never_panic() {
    let archive = archive();
    for at in 0..archive.boundaries[0] {
        for bit in 0..8 {
            let mut bytes = archive.bytes.clone();
            bytes[at] ^= 1 << bit;
            let _ = run(&bytes, &[3], some());
        }
    }
}

#[test]
fn errors_name_offset_and_namespace() {
    let mut closed_twice = archive();
    let at = closed_twice.bytes.len();
    closed_twice.close("b.two", 0);
    let mut stranger = archive();
    stranger.block("x.y", &[]);
    let mut wrong_sum = Builder::new(&[("a.one", "", "")]);
    wrong_sum.block("a.one", &[doc! {}]);
    wrong_sum.close("a.one", 1);
    let mut twice = Builder::new(&[("a.one", "", ""), ("a.one", "", "")]);
    twice.bytes.truncate(twice.boundaries[0]);
    let mut in_last = Builder::new(&[("a.one", "", "")]);
    in_last.document(&doc! {"db": "a", "collection": "one", "EOF": true, "CRC": 0i64});
    in_last.document(&doc! {});
    let mut long = Builder::new(&[("a.one", "", "")]);
    long.document(&doc! {"db": "a", "collection": "one", "EOF": false, "CRC": 0i64});
    long.bytes.extend(0x0100_4001u32.to_le_bytes());
    for (bytes, namespace, problem) in [
        (&closed_twice.bytes, Some("b.two"), "was closed"),
        (&stranger.bytes, Some("x.y"), "does not list"),
        (&wrong_sum.bytes, Some("a.one"), "checksum"),
        (&twice.bytes, Some("a.one"), "listed twice"),
        (&in_last.bytes, Some("a.one"), "ends its namespace"),
        (&long.bytes, Some("a.one"), "16793601 is not the length"),
        (&b"garbage!".to_vec(), None, "no archive of mongodump"),
    ] {
        let error = plain(bytes).unwrap_err();
        assert_eq!(error.namespace.as_deref(), namespace, "{error}");
        assert!(error.problem.contains(problem), "{error}");
        // The same error, wherever the pieces end.
        assert_eq!(run(bytes, &[1], Filter::everything()).unwrap_err(), error);
    }
    assert_eq!(plain(&closed_twice.bytes).unwrap_err().offset, at as u64);
}

#[test]
fn a_filtered_archive_is_a_whole_archive() {
    let (contents, out) = run(&archive().bytes, &[], some()).unwrap();
    let targets: Vec<_> =
        contents.namespaces.iter().map(|e| e.target.as_ref().map(ToString::to_string)).collect();
    let expected = [Some("a.uno"), None, Some("z.empty"), Some("z.view"), Some("z.ts")];
    assert_eq!(targets, expected.map(|t| t.map(str::to_owned)));
    let again = plain(&out).unwrap();
    let names: Vec<_> = again.namespaces.iter().map(|e| e.namespace.to_string()).collect();
    assert_eq!(names, ["a.uno", "z.empty", "z.view", "z.ts"]);
    for (old, new) in contents.namespaces.iter().filter(|e| e.target.is_some()).zip(&again.namespaces) {
        assert_eq!(
            (old.documents, old.bytes, old.crc, old.digest),
            (new.documents, new.bytes, new.crc, new.digest)
        );
    }
    // What it says of the view is what the view will be.
    assert_eq!(contents.namespaces[3].metadata, again.namespaces[2].metadata);
    // The entry about b.two is gone, the one about a.one has the new name.
    let oplog = again.oplog.unwrap();
    assert_eq!((oplog.entries, oplog.last), (2, (8, 1)));
    assert!(again.namespaces[0].touched && !again.namespaces[1].touched);
    let text = String::from_utf8_lossy(&out);
    assert!(text.contains(r#""viewOn":"uno""#) && text.contains(r#""collectionName":"uno""#), "{text}");
}

#[test]
fn two_namespaces_never_become_one() {
    let filter = Filter { renames: vec![Rename::parse("a.one", "b.two").unwrap()], ..Filter::everything() };
    let error = run(&archive().bytes, &[], filter).unwrap_err();
    assert!(error.problem.contains("two namespaces would be b.two"), "{error}");
}

#[test]
fn the_oplog_is_left_out_on_request() {
    let (contents, out) =
        run(&archive().bytes, &[], Filter { oplog: false, ..Filter::everything() }).unwrap();
    assert_eq!(contents.oplog.unwrap().entries, 3);
    let text = String::from_utf8_lossy(&out);
    assert!(!text.contains("oplog"));
    assert_eq!(plain(&out).unwrap().oplog, None);
}

proptest! {
    #[test]
    fn the_pieces_do_not_matter(pieces in prop::collection::vec(1usize..200, 1..20)) {
        let bytes = archive().bytes;
        for filter in [Filter::everything(), some()] {
            prop_assert_eq!(run(&bytes, &pieces, filter.clone()), run(&bytes, &[], filter));
        }
    }

    #[test]
    fn hostile_input_never_panics(
        at in 0usize..2000, junk in prop::collection::vec(any::<u8>(), 0..64), pieces in prop::collection::vec(1usize..64, 1..5),
    ) {
        let mut bytes = archive().bytes;
        let at = at % bytes.len();
        let end = (at + junk.len()).min(bytes.len());
        bytes.splice(at..end, junk);
        let whole = run(&bytes, &[], some());
        let in_pieces = run(&bytes, &pieces, some());
        prop_assert_eq!(whole.map(|(contents, _)| contents), in_pieces.map(|(contents, _)| contents));
    }
}
