//! A snapshot of metrics in pieces: one message has up to 65,536 parts, and a node may have more than that of metrics.

use serde::{Deserialize, Serialize};

use super::service::{decode, encode};
use crate::{
    telemetry::{FamilySnapshot, Snapshot},
    value::Value,
};

/// Pieces of a snapshot, each as bytes that are written like a message of their own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pages {
    unix_ms: u64,
    parts: Vec<Value>,
}

/// How many series one piece has at most: with labels and buckets, one is up to some hundred parts.
const SERIES_MAX: usize = 64;

impl Pages {
    pub(super) fn of(snapshot: &Snapshot) -> Result<Self, String> {
        let mut parts = Vec::new();
        for family in &snapshot.families {
            for series in family.series.chunks(SERIES_MAX) {
                let part = FamilySnapshot {
                    name: family.name.clone(),
                    kind: family.kind,
                    help: family.help.clone(),
                    series: series.to_vec(),
                };
                parts.push(Value::Bytes(encode(&part)?.into()));
            }
        }
        let unix_ms = snapshot.unix_ms;
        Ok(Self { unix_ms, parts })
    }

    /// Those that were cut put together again.
    pub(super) fn whole(self) -> Result<Snapshot, String> {
        let mut families: Vec<FamilySnapshot> = Vec::new();
        for part in self.parts {
            let Value::Bytes(bytes) = part else {
                return Err("a piece of the metrics is no bytes".to_owned());
            };
            let part: FamilySnapshot = decode(&bytes)?;
            match families
                .last_mut()
                .filter(|it| (&it.name, it.kind) == (&part.name, part.kind))
            {
                Some(last) => last.series.extend(part.series),
                None => families.push(part),
            }
        }
        Ok(Snapshot {
            unix_ms: self.unix_ms,
            families,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Options, Telemetry};

    #[test]
    fn more_metrics_than_one_message_has_parts_come_whole() {
        let telemetry = Telemetry::new(Options {
            series_max: 20_000,
            ..Options::default()
        });
        for n in 0..20_000_u64 {
            let cup = n.to_string();
            telemetry.counter("cups", &[("cup", &cup)]).add(n);
        }
        telemetry.histogram("heat", &[]).record(20.0);
        let snapshot = telemetry.snapshot();
        assert!(encode(&snapshot).is_err(), "too much for one");

        let pages = encode(&Pages::of(&snapshot).expect("in pieces")).expect("fits");

        let read: Pages = decode(&pages).expect("as written");
        assert_eq!(read.whole(), Ok(snapshot));
    }
}
