//! The text in which metrics travel (Prometheus exposition format 0.0.4), read.

use std::collections::BTreeMap;

use serde::Serialize;

/// One number of one series.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    name: String,
    #[serde(rename = "type")]
    kind: String,
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

/// All samples in order, each with the type that was said last; the line that could not be read otherwise.
pub(super) fn samples(text: &str) -> Result<Vec<Sample>, &str> {
    let mut kind = "untyped";
    let mut samples = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(said) = line.strip_prefix("# TYPE ") {
            kind = said.rsplit(' ').next().unwrap_or(kind);
        } else if !line.starts_with('#') {
            samples.push(sample(line, kind).ok_or(line)?);
        }
    }
    Ok(samples)
}

/// The lines of the metrics whose name is `prefix` or begins with it as whole words; dots and underscores are the same.
pub(super) fn beginning_with(prefix: &str, text: &str) -> String {
    let prefix = prefix.replace('.', "_");
    let prefix = prefix.trim_end_matches('_');
    let fits = |line: &&str| {
        let rest = named(line).and_then(|name| name.strip_prefix(prefix));
        rest.is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('_'))
    };
    let lines = text.lines().filter(fits);
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The name of the metric that a line is about.
fn named(line: &str) -> Option<&str> {
    match line.strip_prefix("# ") {
        Some(comment) => comment.split(' ').nth(1),
        None => line.split(['{', ' ']).next(),
    }
}

impl Sample {
    /// Whether it only grows: a counter's value, a histogram's count and sum.
    pub(super) fn counts(&self) -> bool {
        let parts = ["_count", "_sum"];
        match self.kind.as_str() {
            "counter" => true,
            "histogram" | "summary" => parts.iter().any(|part| self.name.ends_with(part)),
            _ => false,
        }
    }

    pub(super) fn is_bucket(&self) -> bool {
        self.kind == "histogram" && self.labels.contains_key("le")
    }

    pub(super) fn value(&self) -> Option<f64> {
        match &self.value {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            Number::Whole(whole) => Some(*whole as f64),
            Number::Float(float) => Some(*float),
            Number::Text(_) => None,
        }
    }

    pub(super) fn shown(&self) -> String {
        match &self.value {
            Number::Whole(whole) => whole.to_string(),
            Number::Float(float) => float.to_string(),
            Number::Text(text) => text.clone(),
        }
    }

    /// Name and labels as the exposition writes them, control characters made harmless.
    pub(super) fn series(&self) -> String {
        if self.labels.is_empty() {
            return self.name.clone();
        }
        let labels = self.labels.iter();
        let labels: Vec<String> = labels
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        format!("{}{{{}}}", self.name, labels.join(","))
    }
}

fn sample(line: &str, kind: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?;
    Some(Sample {
        name: name.to_owned(),
        kind: kind.to_owned(),
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
                {"name": "a_total", "type": "counter", "labels": {}, "value": 5},
                {"name": "a_bucket", "type": "counter", "labels": {"le": "0.5", "path": "a\"b\\c\nd, }"}, "value": 1.5},
                {"name": "b", "type": "counter", "labels": {}, "value": "+Inf"},
            ])
        );
    }

    #[test]
    fn a_prefix_is_whole_words_and_brings_the_comments_along() {
        let text = "# HELP a_b_total What.\n# TYPE a_b_total counter\na_b_total{c=\"a b\"} 1\na_bc 2\na 3\n";
        let found = |prefix| beginning_with(prefix, text).lines().count();
        assert_eq!(
            [
                found(""),
                found("a"),
                found("a.b"),
                found("a_b_"),
                found("a_bc"),
                found("b")
            ],
            [5, 5, 3, 3, 1, 0]
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
