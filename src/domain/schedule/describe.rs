//! A schedule in English.

use super::fields::Field;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The fields as one phrase: `at 02:17 every day`, `at minute 17 of every hour`.
pub(super) fn describe(fields: &[Field; 5]) -> String {
    let [minute, hour, day, month, weekday] = fields;
    let time = time(minute, hour);
    let days = match (day.any, weekday.any) {
        (true, true) if hour.repeats => String::new(),
        (true, true) => " every day".to_owned(),
        (true, false) => format!(" on {}", named(weekday, &WEEKDAYS, 0)),
        (false, true) => format!(" on day {} of the month", numbers(day)),
        (false, false) => {
            format!(" on day {} of the month or on {}", numbers(day), named(weekday, &WEEKDAYS, 0))
        }
    };
    let months = if month.any { String::new() } else { format!(" in {}", named(month, &MONTHS, 1)) };
    format!("{time}{days}{months}")
}

fn time(minute: &Field, hour: &Field) -> String {
    let (minutes, hours) = (minute.values(), hour.values());
    if hour.any {
        return match (minute.any, spacing(&minutes, 60)) {
            (true, _) => "every minute".to_owned(),
            (_, Some(step)) => format!("every {step} minutes from minute {}", minutes[0]),
            _ => format!("at minute {} of every hour", numbers(minute)),
        };
    }
    if minutes.len() * hours.len() <= 6 {
        let clock = |h: &u8| minutes.iter().map(move |m| format!("{h:02}:{m:02}")).collect::<Vec<_>>();
        return format!("at {}", join(&hours.iter().flat_map(clock).collect::<Vec<_>>()));
    }
    let minutes =
        if minute.any { "every minute".to_owned() } else { format!("at minute {}", numbers(minute)) };
    match spacing(&hours, 24) {
        Some(step) => format!("{minutes} of every {step} hours from hour {}", hours[0]),
        None => format!("{minutes} of hour {}", numbers(hour)),
    }
}

/// The step of values that are evenly spaced around a whole of `size`.
fn spacing(values: &[u8], size: u8) -> Option<u8> {
    let step = values.get(1)? - values.first()?;
    let even = values.windows(2).all(|pair| pair[1] - pair[0] == step);
    (even && step > 1 && size.checked_rem(step) == Some(0) && values.len() == usize::from(size / step))
        .then_some(step)
}

fn numbers(field: &Field) -> String {
    runs(&field.values(), u8::to_string)
}

fn named(field: &Field, names: &[&str], first: u8) -> String {
    let name = |value: &u8| names.get(usize::from(value - first)).copied().unwrap_or_default().to_owned();
    runs(&field.values(), name)
}

/// `1, 3 and 7 to 9`
fn runs(values: &[u8], name: impl Fn(&u8) -> String) -> String {
    let groups = values.chunk_by(|a, b| a + 1 == *b);
    let phrases: Vec<_> = groups
        .flat_map(|group| match group {
            [first, _, .., last] => vec![format!("{} to {}", name(first), name(last))],
            short => short.iter().map(&name).collect(),
        })
        .collect();
    join(&phrases)
}

fn join(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
