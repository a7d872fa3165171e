//! The figures, and their medians and ratios as text and JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Column;

/// One row: its unit, and the samples of each contender.
#[derive(Debug, Default)]
struct Row {
    unit: &'static str,
    samples: BTreeMap<Column, Vec<f64>>,
}

/// All rows in the order of their first sample.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<(String, Row)>,
}

impl Table {
    /// Adds a sample.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, column: Column, value: f64) {
        let row = match self.rows.iter().position(|(given, _)| given == name) {
            Some(row) => row,
            None => {
                self.rows.push((name.to_owned(), Row { unit, ..Row::default() }));
                self.rows.len() - 1
            }
        };
        self.rows[row].1.samples.entry(column).or_default().push(value);
    }

    /// A table for people.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![format!(
            "{:<34} {:>9} {:>10} {:>10} {:>12} {:>12}",
            "lower is better", "local", "notefs", "rclone", "notefs/local", "notefs/rclone"
        )];
        for (name, row) in &self.rows {
            let cell = |column| row.median(column).map_or("-".to_owned(), short);
            let ratio = |column| row.ratio(column).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            lines.push(format!(
                "{:<34} {:>9} {:>10} {:>10} {:>12} {:>12}",
                format!("{name} [{}]", row.unit),
                cell(Column::Local),
                cell(Column::Notefs),
                cell(Column::Rclone),
                ratio(Column::Local),
                ratio(Column::Rclone),
            ));
        }
        lines.join("\n")
    }

    /// The same for programs, with every sample.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, row)| {
            let samples = |column| row.samples.get(&column).cloned().unwrap_or_default();
            json!({
                "name": name,
                "unit": row.unit,
                "local": row.median(Column::Local),
                "notefs": row.median(Column::Notefs),
                "rclone": row.median(Column::Rclone),
                "notefs_to_local": row.ratio(Column::Local),
                "notefs_to_rclone": row.ratio(Column::Rclone),
                "samples": {
                    "local": samples(Column::Local),
                    "notefs": samples(Column::Notefs),
                    "rclone": samples(Column::Rclone),
                },
            })
        });
        json!({ "rows": rows.collect::<Vec<_>>() })
    }
}

impl Row {
    fn median(&self, column: Column) -> Option<f64> {
        let mut samples = self.samples.get(&column)?.clone();
        samples.sort_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied()
    }

    /// How many times `column`'s figure notefs's is.
    fn ratio(&self, column: Column) -> Option<f64> {
        Some(self.median(Column::Notefs)? / self.median(column)?)
    }
}

fn short(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
