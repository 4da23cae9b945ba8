//! How a task ended, for the controller: built small, written so that it is there whole or not at all.

use crate::{domain::snapshot::SourceSummary, plan::task_spec::TaskReport};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Bytes that a Kubernetes termination message holds.
const LIMIT: usize = 4096;

/// The report within 4 KiB: what can be missed most easily goes first.
#[must_use]
pub fn fit(mut report: TaskReport) -> TaskReport {
    if report.snapshot.is_some() {
        // The snapshot tells the same of the same sources.
        report.sources.clear();
    }
    while size(&report) > LIMIT {
        if report.warnings.len() > 1 {
            let left_out = report.warnings.len() - 1;
            report.warnings.truncate(left_out);
        } else if report.pruned.pop().is_some() {
        } else if let Some(warning) = report.warnings.iter_mut().find(|warning| warning.len() > 200) {
            clip(warning, 200);
        } else if let Some(failure) = report.failure.as_mut().filter(|failure| failure.message.len() > 500) {
            clip(&mut failure.message, 500);
        } else if let Some(source) = sources(&mut report).find(|source| is_long(source)) {
            // What the next run's guards compare with is the bytes.
            (source.files, source.collections, source.documents, source.changed_while_read) = (0, 0, 0, 0);
        } else {
            // More than a termination message holds, but a file takes it.
            break;
        }
    }
    report
}

fn sources(report: &mut TaskReport) -> impl Iterator<Item = &mut SourceSummary> {
    let of_snapshot = report.snapshot.iter_mut().flat_map(|snapshot| &mut snapshot.sources);
    report.sources.iter_mut().chain(of_snapshot)
}

fn is_long(source: &SourceSummary) -> bool {
    source.files + source.collections + source.documents + source.changed_while_read > 0
}

fn size(report: &TaskReport) -> usize {
    serde_json::to_vec(report).map_or(0, |text| text.len())
}

/// Cuts `text` to at most `length` bytes, the mark of the cut included.
fn clip(text: &mut String, length: usize) {
    const MARK: &str = "…";
    let end = (0..=length - MARK.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text.push_str(MARK);
}

/// Writes the report: a temporary file beside it, synced, renamed; into the file itself where that is mounted, as the
/// termination message of a container is.
///
/// # Errors
/// The first step that failed.
pub fn write(path: &Path, report: &TaskReport) -> io::Result<()> {
    match replace(path, report) {
        Err(_) if path.is_file() => fs::write(path, serde_json::to_vec(report)?),
        replaced => replaced,
    }
}

fn replace(path: &Path, report: &TaskReport) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let mut file = File::create(&temporary)?;
    let replaced = file
        .write_all(&serde_json::to_vec(report)?)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    replaced?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::Failure;

    #[test]
    fn a_report_is_cut_to_what_fits() {
        let mut report = TaskReport::failed(Failure::temporary("Broken", "x".repeat(9000)));
        report.warnings = (0..100).map(|n| format!("{n} {}", "ä".repeat(300))).collect();
        report.pruned =
            (0..200).map(|n| format!("nightly-20261125T0200{:02}Z", n % 60).parse().unwrap()).collect();
        let report = fit(report);
        assert!(size(&report) <= LIMIT);
        assert_eq!(report.failure.unwrap().reason, "Broken");
        assert_eq!(report.warnings.len(), 1);
    }

    #[test]
    fn a_report_replaces_the_one_before_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        for message in ["one", "two"] {
            write(&path, &TaskReport::failed(Failure::permanent("Broken", message))).unwrap();
        }
        let read: TaskReport = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read.failure.unwrap().message, "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
