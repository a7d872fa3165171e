//! Metrics as text, in the exposition format of Prometheus (version 0.0.4).
//!
//! Owns the format: each family has its help and its type before its samples, and label values are escaped. Owns no names.

use super::{BOUNDS, Counts, bound_ns};
use std::fmt::Write;

/// A page of metrics that is being written.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// A number that grows and shrinks.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// A number that only grows while the daemon lives.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value as f64);
    }

    /// Numbers that only grow, told apart by one label.
    pub(crate) fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.family(name, "counter", help);
        for (which, value) in values {
            self.sample(name, &[(label, which)], *value as f64);
        }
    }

    /// Constant words, told as labels of the number 1.
    pub(crate) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, "gauge", help);
        self.sample(name, labels, 1.0);
    }

    /// Times in seconds, told apart by one label.
    pub(crate) fn histograms(&mut self, name: &str, help: &str, label: &str, values: &[(&str, Counts)]) {
        self.family(name, "histogram", help);
        for (which, counts) in values {
            let mut so_far = 0;
            for (number, count) in counts.buckets.iter().enumerate() {
                so_far += count;
                let bound = match number {
                    BOUNDS => "+Inf".to_owned(),
                    _ => (bound_ns(number) as f64 / 1e9).to_string(),
                };
                self.sample(
                    &format!("{name}_bucket"),
                    &[(label, which), ("le", &bound)],
                    so_far as f64,
                );
            }
            self.sample(&format!("{name}_sum"), &[(label, which)], counts.sum_ns as f64 / 1e9);
            self.sample(&format!("{name}_count"), &[(label, which)], so_far as f64);
        }
    }

    /// The page as it is sent.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (position, (label, word)) in labels.iter().enumerate() {
            let before = if position == 0 { '{' } else { ',' };
            write!(self.text, "{before}{label}=\"{}\"", escaped(word)).ok();
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        writeln!(self.text, " {value}").ok();
    }
}

fn escaped(word: &str) -> String {
    word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_help_type_and_samples() {
        let mut page = Page::default();
        page.gauge("a", "An a.", 1.5);
        page.counters("b_total", "Some b.", "kind", &[("x", 1), ("y\"\\\n", 2)]);
        assert_eq!(
            page.into_text(),
            "# HELP a An a.\n# TYPE a gauge\na 1.5\n# HELP b_total Some b.\n# TYPE b_total counter\n\
             b_total{kind=\"x\"} 1\nb_total{kind=\"y\\\"\\\\\\n\"} 2\n"
        );
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let mut counts = Counts::default();
        counts.buckets[0] = 2;
        counts.buckets[BOUNDS] = 1;
        counts.sum_ns = 1_500_000_000;
        let mut page = Page::default();
        page.histograms("t_seconds", "Times.", "operation", &[("read", counts)]);
        let text = page.into_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "t_seconds_bucket{operation=\"read\",le=\"0.000004096\"} 2");
        assert_eq!(lines[2 + BOUNDS], "t_seconds_bucket{operation=\"read\",le=\"+Inf\"} 3");
        assert_eq!(lines[3 + BOUNDS], "t_seconds_sum{operation=\"read\"} 1.5");
        assert_eq!(lines[4 + BOUNDS], "t_seconds_count{operation=\"read\"} 3");
    }
}
