//! Opening a dump: the archive from its first byte to its last, and the documents of every namespace.

use super::{
    bits,
    report::{Findings, Proof, VerifyReport},
    stored::Opened,
};
use crate::{
    domain::verdict::Failure,
    storage::{
        archive::{
            broken::FeedError,
            contents::{Contents, Entry},
            filter::Filter,
            listing,
            parser::Parser,
        },
        manifest::PackRef,
        pack::reader::PackReader,
        store::ObjectStore,
    },
    task::{
        context::Meter,
        restore::files::{
            member::{Unreadable, explain},
            stream::PackStream,
        },
    },
};
use std::{collections::BTreeSet, io::Read, sync::Arc};

/// Read at once.
const BUFFER: usize = 256 << 10;

/// What reading an archive gave.
struct Archive {
    contents: Result<Contents, String>,
    /// The object at which reading ended.
    object: String,
    damaged: Vec<(String, String)>,
    verified: BTreeSet<usize>,
}

/// Opens a dump, whose list of namespaces is known to be good.
///
/// # Errors
/// The store does not answer.
pub async fn open(
    store: &Arc<dyn ObjectStore>,
    opened: &Opened<'_>,
    meter: &Arc<Meter>,
    report: &mut VerifyReport,
) -> Result<Proof, Failure> {
    let record = opened.record;
    meter.begin(&format!("{}: opening", record.source), record.packs.first().map(|pack| pack.plain));
    let mut proof = Proof::new(record.source.clone());
    let Some((pack, reader)) = record.packs.first().and_then(|pack| Some((pack, opened.packs.get(&pack.n)?)))
    else {
        return Ok(proof);
    };
    let expected = match listing::load(&**store, record).await {
        Ok(expected) => expected,
        Err(failure) if bits::is_damage(&failure) => {
            report.damaged(format!("{} (index)", pack.id), failure.message);
            return Ok(proof);
        }
        Err(failure) => return Err(failure),
    };
    let archive = read(Arc::clone(reader), Arc::clone(meter)).await?;
    let mut findings = Findings::default();
    for (object, what) in &archive.damaged {
        findings.object(object, what);
    }
    let rest = |part: usize| !archive.verified.contains(&part);
    bits::parts(reader, pack.directory(), rest, meter, &mut findings).await?;
    match &archive.contents {
        Ok(contents) => compare(&expected, contents, pack, &mut proof, &mut findings),
        Err(what) => {
            // Blocks of namespaces interleave: after the first damage none can be proven.
            for entry in &expected {
                findings.hit(&archive.object, what, entry.namespace.to_string());
            }
        }
    }
    report.add(findings);
    Ok(proof)
}

async fn read(reader: Arc<PackReader>, meter: Arc<Meter>) -> Result<Archive, Failure> {
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let mut stream = PackStream::new(reader, runtime)?;
        stream.fetch_whole(0..u64::MAX);
        let contents = match parse(&mut stream, &meter) {
            Ok(contents) => Ok(contents),
            Err(what) => match explain(&mut stream, &what) {
                Unreadable::Damaged(what) => Err(what),
                Unreadable::Store(failure) => return Err(failure),
            },
        };
        Ok(Archive {
            contents,
            object: stream.path(),
            damaged: stream.take_damaged(),
            verified: stream.take_verified().into_iter().collect(),
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Failure::temporary("Internal", "the verification ended early")))
}

fn parse(stream: &mut PackStream, meter: &Meter) -> Result<Contents, String> {
    let mut parser = Parser::new(Filter::everything());
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = stream.read(&mut buffer).map_err(|e| e.to_string())?;
        if read == 0 {
            return parser.finish().map_err(|broken| broken.to_string());
        }
        meter.add(read as u64, 0);
        parser.feed(&buffer[..read], &mut |_| Ok(())).map_err(|error| match error {
            FeedError::Broken(broken) => broken.to_string(),
            FeedError::Sink(failure) => failure.message,
        })?;
    }
}

fn compare(
    expected: &[Entry],
    contents: &Contents,
    pack: &PackRef,
    proof: &mut Proof,
    findings: &mut Findings,
) {
    for entry in expected {
        let found = contents.namespaces.iter().find(|found| found.namespace == entry.namespace);
        let key = |e: &Entry| (e.documents, e.bytes, e.crc, e.digest);
        if found.is_some_and(|found| key(found) == key(entry)) {
            proof.namespaces += 1;
            proof.documents += entry.documents;
            proof.bytes += entry.bytes;
        } else {
            let what = "the archive does not hold the documents that its list of namespaces tells of";
            findings.hit(&pack.id, what, entry.namespace.to_string());
        }
    }
}
