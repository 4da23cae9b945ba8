//! The plan and the result of a restore, for a person.

use crate::{
    cli::{style::Style, table::printable},
    domain::size::human,
    task::restore::{
        RestoreReport,
        files::{report::FilesReport, target::Occupancy},
        plan::{MongodbPlan, RestorePlan, VolumePlan},
    },
};
use std::fmt::Write as _;

/// Names that are shown of a longer list.
const SHOWN: usize = 10;

/// The plan as a screen.
pub fn plan(plan: &RestorePlan, place: &str, color: bool) -> String {
    let mut text = Style::Bold.paint("PLAN (nothing will be changed)\n", color).into_owned();
    let name = &plan.snapshot.name;
    let good = plan.objects.saturating_sub(plan.damage.len() as u64);
    let check = format!("{good}/{} objects present", plan.objects);
    let style = if plan.damage.is_empty() { Style::Green } else { Style::Red };
    line(
        &mut text,
        "Source",
        &format!("{place}/{}/{name}  {}", name.slot().day(), style.paint(&check, color)),
    );
    for damage in plan.damage.iter().take(SHOWN) {
        line(&mut text, "", &format!("{} {}", damage.object, damage.what));
    }
    if let Some(database) = &plan.mongodb {
        mongodb(&mut text, database, color);
    }
    for target in &plan.volumes {
        volume(&mut text, target, color);
    }
    for name in &plan.left_out {
        line(&mut text, name.as_str(), &Style::Dim.paint("in the backup, not asked for", color));
    }
    text
}

/// A line under its heading in the first column.
fn line(text: &mut String, heading: &str, rest: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{heading:<12} {rest}");
}

fn mongodb(text: &mut String, plan: &MongodbPlan, color: bool) {
    let what = if plan.occupied.is_empty() {
        Style::Green.paint("nothing of it exists", color).into_owned()
    } else {
        Style::Red.paint(&format!("REPLACE ({} exist)", plan.occupied.len()), color).into_owned()
    };
    let MongodbPlan { namespaces, documents, bytes, .. } = plan;
    line(
        text,
        "mongodb",
        &format!(
            "{} collections, {} documents, {}  {what}",
            thousands(*namespaces),
            thousands(*documents),
            human(*bytes)
        ),
    );
    for (name, documents) in plan.occupied.iter().take(SHOWN) {
        line(text, "", &format!("{}  {} documents", printable(name), thousands(*documents)));
    }
}

fn volume(text: &mut String, plan: &VolumePlan, color: bool) {
    let VolumePlan { name, directory, files, bytes, free_bytes, occupancy, difference, delete_extra } = plan;
    let what = match (occupancy, difference) {
        (Occupancy::Missing, _) => "into a new directory".to_owned(),
        (Occupancy::Empty, _) => "into an empty directory".to_owned(),
        (Occupancy::Unfinished(_), _) => "GO ON with an interrupted restore".to_owned(),
        (Occupancy::Occupied, Some(d)) => format!(
            "restore {} · update {} · unchanged {}",
            thousands(d.missing),
            thousands(d.differing),
            thousands(d.same)
        ),
        (Occupancy::Occupied, None) => "REPLACE what is there".to_owned(),
    };
    line(
        text,
        name.as_str(),
        &format!("{directory}  {} files, {}  {what}", thousands(*files), human(*bytes)),
    );
    if let Some(extra) = difference.as_ref().filter(|d| d.extra > 0) {
        let fate = if *delete_extra {
            Style::Red.paint("DELETE", color)
        } else {
            Style::Plain.paint("KEEP (use --delete-extra)", color)
        };
        line(text, "", &format!("not in backup: {} entries  {fate}", thousands(extra.extra)));
        for path in extra.extra_paths.iter().take(SHOWN) {
            line(text, "", &format!("  {}", printable(path)));
        }
    }
    let fits =
        if bytes <= free_bytes { Style::Green.paint("✓", color) } else { Style::Red.paint("✗", color) };
    line(text, "Space", &format!("need {}, have {} {fits}", human(*bytes), human(*free_bytes)));
}

/// True when all that is there is what this very restore left behind.
pub fn goes_on(plan: &RestorePlan) -> bool {
    let free = |v: &VolumePlan| !matches!(v.occupancy, Occupancy::Occupied);
    plan.mongodb.as_ref().is_none_or(|plan| plan.occupied.is_empty()) && plan.volumes.iter().all(free)
}

/// The command that carries the plan out.
pub fn command(confirm: Option<&str>) -> String {
    let arguments = std::env::args().skip(1).filter(|a| a != "--dry-run" && !a.starts_with("--confirm"));
    let mut words = vec!["backstay".to_owned()];
    words.extend(arguments.map(|argument| quoted(&argument)));
    words.extend(confirm.map(|instance| format!("--confirm={instance}")));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What a restore did.
pub fn report(report: &RestoreReport, color: bool) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Restored {}", report.snapshot);
    if let Some(mongodb) = &report.mongodb {
        let (namespaces, documents) = (thousands(mongodb.namespaces), thousands(mongodb.documents));
        let users =
            if mongodb.users > 0 { format!(", {} users and roles", mongodb.users) } else { String::new() };
        let counted =
            format!("{namespaces} collections, {documents} documents, {}{users}", human(mongodb.bytes));
        line(&mut text, "mongodb", &format!("{} {counted}", mark(mongodb.is_whole(), color)));
        for difference in mongodb.differences.iter().take(SHOWN) {
            line(&mut text, "", &printable(difference));
        }
    }
    for volume in &report.volumes {
        files(&mut text, volume.name.as_str(), &volume.files, color);
    }
    text
}

fn mark(good: bool, color: bool) -> String {
    if good {
        Style::Green.paint("✓", color).into_owned()
    } else {
        Style::Red.paint("✗", color).into_owned()
    }
}

fn files(text: &mut String, name: &str, report: &FilesReport, color: bool) {
    let counts = [
        (report.files, "file", "files"),
        (report.unchanged, "unchanged", "unchanged"),
        (report.directories, "directory", "directories"),
        (report.hard_links, "hard link", "hard links"),
        (report.symlinks, "symlink", "symlinks"),
        (report.special, "special file", "special files"),
        (report.deleted, "deleted", "deleted"),
    ];
    let shown: Vec<_> = counts
        .iter()
        .filter(|(count, _, what)| *count > 0 || *what == "files")
        .map(|(count, one, many)| format!("{} {}", thousands(*count), if *count == 1 { one } else { many }))
        .collect();
    line(
        text,
        name,
        &format!("{} {}, {}", mark(report.is_whole(), color), shown.join(", "), human(report.bytes)),
    );
    let troubles = [
        (report.failed, "not restored", Style::Red),
        (report.unreadable, "were not readable when the backup was made", Style::Yellow),
        (report.unset, "owners, modes, attributes or times could not be set", Style::Yellow),
        (report.other_owner, "entries are yours instead of their owner's (needs root)", Style::Yellow),
        (report.skipped_setuid, "setuid bits left out (--preserve-setuid)", Style::Dim),
        (report.skipped_devices, "devices left out (--devices)", Style::Dim),
    ];
    for (count, what, style) in troubles.iter().filter(|(count, ..)| *count > 0) {
        line(text, "", &style.paint(&format!("{} {what}", thousands(*count)), color));
    }
    for problem in report.problems.iter().take(SHOWN) {
        line(text, "", &format!("  {} {}", printable(&problem.path), printable(&problem.what)));
    }
    for object in &report.damaged_objects {
        line(text, "", &format!("  damaged on the remote: {}", printable(object)));
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
