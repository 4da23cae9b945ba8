//! Sizes and rates as people write and read them.

use crate::domain::error::Invalid;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `bytes` with a binary unit and, below 100 of it, one decimal: `812B`, `45.1GiB`, `218GiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95);
    format!("{value:.digits$}{}", UNITS[unit])
}

/// Bytes from a quantity of Kubernetes: `512Mi`, `1.5Gi`, `2G`, `134217728`.
///
/// # Errors
/// What is no such quantity, or no whole number of bytes within 64 bits.
pub fn parse_quantity(text: &str) -> Result<u64, Invalid> {
    let wrong = || {
        Invalid::new(format!(
            "{text:?} is not a size; write bytes, or a number with Ki, Mi, Gi, k, M or G: 512Mi"
        ))
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1000 * 1000,
        "G" => 1000 * 1000 * 1000,
        "T" => 1000 * 1000 * 1000 * 1000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty()
        || number.len() > 20
        || (number.contains('.') && fraction.is_empty())
        || fraction.len() > 3
    {
        return Err(wrong());
    }
    let thousandths = fraction.chars().chain("000".chars()).take(3).collect::<String>();
    let parse = |digits: &str| digits.parse::<u64>().map_err(|_| wrong());
    let bytes = parse(whole)?.checked_mul(scale).ok_or_else(wrong)?;
    let rest = parse(&thousandths)?.checked_mul(scale).ok_or_else(wrong)? / 1000;
    bytes.checked_add(rest).ok_or_else(wrong)
}

/// Accepts what rclone's `--bwlimit` takes: a rate (`8M`, `off`), one for each direction (`8M:1M`), or a timetable
/// (`08:00,2M 19:00,off`, `Mon-08:00,2M Sat-00:00,off`).
///
/// # Errors
/// The first word that cannot be read.
pub fn check_bandwidth(text: &str) -> Result<(), Invalid> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let good = match words.as_slice() {
        [] => false,
        [one] if !one.contains(',') => is_rate(one),
        timetable => timetable.iter().all(|word| is_slot(word)),
    };
    if good {
        return Ok(());
    }
    Err(Invalid::new(format!(
        "{text:?} is not a bandwidth limit; write a rate such as 8M (bytes a second), or times with rates such as 08:00,2M 19:00,off"
    )))
}

fn is_slot(word: &str) -> bool {
    let Some((time, rate)) = word.split_once(',') else { return false };
    let clock = match time.split_once('-') {
        Some((day, clock)) => {
            let days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
            if !days.iter().any(|name| day.to_ascii_lowercase().starts_with(name)) {
                return false;
            }
            clock
        }
        None => time,
    };
    let number = |digits: &str, most: u8| {
        digits.len() == 2
            && digits.bytes().all(|c| c.is_ascii_digit())
            && digits.parse::<u8>().is_ok_and(|n| n < most)
    };
    clock.split_once(':').is_some_and(|(hour, minute)| number(hour, 24) && number(minute, 60))
        && is_rate(rate)
}

fn is_rate(text: &str) -> bool {
    let one = |rate: &str| {
        let number = rate
            .trim_end_matches('i')
            .trim_end_matches(['B', 'K', 'M', 'G', 'T', 'P', 'b', 'k', 'm', 'g', 't', 'p']);
        rate == "off"
            || (!number.is_empty()
                && rate.len() - number.len() <= 2
                && number.bytes().all(|c| c.is_ascii_digit() || c == b'.')
                // `08:00` is a time without a rate, not two rates.
                && !(number.len() > 1 && number.starts_with('0') && !number.starts_with("0."))
                && number.parse::<f64>().is_ok())
    };
    match text.split_once(':') {
        Some((up, down)) => one(up) && one(down),
        None => one(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (48_425_234_432, "45.1GiB"),
            (1_048_575, "1.0MiB"),
            (234_000_000_000, "218GiB"),
            (u64::MAX, "16384PiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn quantities() {
        for (text, bytes) in [("512Mi", 512 << 20), ("1.5Gi", 1536 << 20), ("2G", 2_000_000_000), ("77", 77)]
        {
            assert_eq!(parse_quantity(text), Ok(bytes), "{text}");
        }
        for bad in
            ["", "Mi", "1.", ".5G", "1e3", "-1", "1 G", "5Xi", "99999999999999999999", "1.2345G", "1.2.3"]
        {
            assert!(parse_quantity(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bandwidth_limits() {
        for good in [
            "8M",
            "off",
            "1.5M",
            "512k:1Mi",
            "08:00,2M 19:00,off",
            "Mon-08:00,512K Sat-00:00,10M:off",
            "08:00,2M",
        ] {
            assert!(check_bandwidth(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "fast",
            "8M 9M",
            "25:00,2M",
            "08:00",
            "8:00,2M",
            "M",
            "08:00,",
            "Foo-08:00,2M",
            "8MM M",
            "--flag",
        ] {
            assert!(check_bandwidth(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = parse_quantity(&text);
            let _ = check_bandwidth(&text);
        }
    }
}
