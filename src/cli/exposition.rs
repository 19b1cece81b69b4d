//! The text in which metrics travel (Prometheus exposition format 0.0.4), read.

use std::collections::BTreeMap;

use serde::Serialize;

/// One number of one series.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: Number,
}

/// JSON has no infinity: such values are text, as they are in the exposition.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Float(f64),
    Text(String),
}

/// All samples in order; the line that could not be read otherwise.
pub(super) fn samples(text: &str) -> Result<Vec<Sample>, &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| sample(line).ok_or(line))
        .collect()
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: number(value)?,
    })
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = quoted_text(quoted)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

/// Text up to its closing quote, with `\\`, `\"` and `\n` resolved.
fn quoted_text(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

fn number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse() {
        return Some(Number::Whole(whole));
    }
    let float: f64 = text.parse().ok()?;
    Some(if float.is_finite() {
        Number::Float(float)
    } else {
        Number::Text(text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> serde_json::Value {
        serde_json::to_value(samples(text).expect("readable")).expect("JSON")
    }

    #[test]
    fn samples_keep_name_labels_and_value() {
        let text = "# HELP a What it is.\n# TYPE a counter\na_total 5\n\na_bucket{le=\"0.5\",path=\"a\\\"b\\\\c\\nd, }\"} 1.5 1700000000\nb{} +Inf\n# EOF\n";

        assert_eq!(
            read(text),
            json!([
                {"name": "a_total", "labels": {}, "value": 5},
                {"name": "a_bucket", "labels": {"le": "0.5", "path": "a\"b\\c\nd, }"}, "value": 1.5},
                {"name": "b", "labels": {}, "value": "+Inf"},
            ])
        );
    }

    #[test]
    fn every_cut_is_an_error_or_a_list() {
        let text = "a{b=\"c\\\"d\",e=\"é\"} 1\n";
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let _ = samples(&text[..cut]);
        }
        assert_eq!(samples("a{b=\"c\n"), Err("a{b=\"c"));
    }
}
