//! Checks that docs/metrics.md, alerts.yml and grafana.json name existing metrics, labels and states.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use super::{Exporter, status};

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file)).unwrap()
}

/// Returns the name of a metric without the suffixes that OpenMetrics appends to a histogram's name: `_bucket`, `_sum`, `_count`.
fn base(name: &str) -> String {
    let ends = ["_bucket", "_sum", "_count"];
    ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
}

/// Returns the names of all Palabre metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("palabre_")).map(base).collect()
}

/// Scrapes an exporter. Returns each metric with the values of each of its labels.
fn metrics() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let exporter = Exporter::start();
    let supervisor = exporter.supervisor(status());
    let answer = exporter.metrics();
    supervisor.join().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let mut metrics: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let labels = metrics.entry(base(name)).or_default();
        for (label, value, _) in selector(rest.split_once('}').map_or("", |(labels, _)| labels)) {
            labels.entry(label).or_default().insert(value);
        }
    }
    // Add the metric of the level, which this scrape lacks: it exists only while a participant makes sound. It has the labels of `talking`.
    let labels = metrics["palabre_participant_talking"].clone();
    metrics.insert("palabre_participant_level_dbfs".into(), labels);
    metrics
}

/// Parses a selector such as `a="x",b=~"y|z"`. Returns each label with its value and whether the value is a pattern.
fn selector(text: &str) -> Vec<(String, String, bool)> {
    let one = |part: &str| {
        let (label, value) = part.split_once('=').unwrap_or_else(|| panic!("no label: {part}"));
        (label.to_owned(), value.trim_start_matches('~').trim_matches('"').to_owned(), value.starts_with('~'))
    };
    text.split(',').filter(|part| !part.is_empty()).map(one).collect()
}

/// Checks that the metrics, labels and states in `expression` exist, and that each of its metrics has the labels `shown`. `of` names the expression.
fn check(of: &str, expression: &str, shown: &[String]) {
    let metrics = metrics_once();
    let used = names(expression);
    assert!(!used.is_empty(), "{of}: {expression}");
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        assert_eq!(expression.matches(open).count(), expression.matches(close).count(), "{of}: {expression}");
    }
    for name in &used {
        let labels = metrics.get(name).unwrap_or_else(|| panic!("{of} uses {name}, which doesn't exist"));
        for label in shown {
            assert!(labels.contains_key(label), "{of} shows the label {label} of {name}");
        }
    }
    assert!(shown.is_empty() || !expression.contains("sum("), "{of} shows {shown:?} of a sum");
    for (at, _) in expression.match_indices('{') {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = expression[..at].rsplit(|c| !is_part(c)).next().unwrap();
        let labels = &metrics[&base(name)];
        for (label, value, is_pattern) in selector(expression[at + 1..].split_once('}').unwrap().0) {
            let known = labels.get(&label).unwrap_or_else(|| panic!("{of}: {name} has no label {label}"));
            // Only the values of the label `state` are checked, because other labels have no fixed set of values.
            let values = value.split('|').filter(|_| label == "state");
            let all = values.clone().all(|value| known.contains(value)) && (is_pattern || values.count() <= 1);
            assert!(all, "{of}: {label} is never {value}");
        }
    }
}

fn metrics_once() -> &'static BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    static METRICS: std::sync::OnceLock<BTreeMap<String, BTreeMap<String, BTreeSet<String>>>> =
        std::sync::OnceLock::new();
    METRICS.get_or_init(metrics)
}

/// Returns the label names that follow `before` in a text, such as `name` in `{{name}}` or `$labels.name`.
fn shown(text: &str, before: &str) -> Vec<String> {
    let word = |rest: &str| {
        let word = rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap().to_owned();
        assert!(!word.is_empty(), "no label after {before}: {text}");
        word
    };
    text.split(before).skip(1).map(word).collect()
}

#[test]
fn metrics_md_lists_every_metric() {
    let real: BTreeSet<String> = metrics_once().keys().cloned().collect();
    assert_eq!(names(&read("metrics.md")), real, "docs/metrics.md");
}

#[test]
fn dashboard_uses_existing_metrics() {
    let dashboard: Value = serde_json::from_str(&read("grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let targets: Vec<(&str, &str)> =
        targets.map(|it| (it["expr"].as_str().unwrap(), it["legendFormat"].as_str().unwrap())).collect();
    assert!(targets.len() > 15, "{targets:?}");
    assert!(targets.iter().any(|(_, legend)| !shown(legend, "{{").is_empty()), "no legend has a label");
    for (expression, legend) in targets {
        check("docs/grafana.json", expression, &shown(legend, "{{"));
    }
    let rooms = dashboard["templating"]["list"].as_array().unwrap().iter().find(|list| list["name"] == "room").unwrap();
    let asked = rooms["query"].as_str().unwrap().strip_prefix("label_values(").unwrap().trim_end_matches(')');
    let (metric, label) = asked.split_once(", ").unwrap();
    assert!(metrics_once()[metric].contains_key(label), "{asked}");
}

#[test]
fn alerts_use_existing_metrics() {
    let file = YamlLoader::load_from_str(&read("alerts.yml")).unwrap();
    let keys = |map: &Yaml| -> Vec<String> {
        map.as_hash().unwrap().keys().map(|key| key.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((file.len(), keys(&file[0])), (1, vec!["groups".to_owned()]));
    let (mut alerts, mut labels) = (BTreeSet::new(), 0);
    for group in file[0]["groups"].as_vec().unwrap() {
        assert_eq!(keys(group), ["name", "rules"]);
        for rule in group["rules"].as_vec().unwrap() {
            assert_eq!(keys(rule), ["alert", "expr", "for", "labels", "annotations"], "{rule:?}");
            let name = rule["alert"].as_str().unwrap();
            assert!(name.starts_with("Palabre") && alerts.insert(name.to_owned()), "{name}");
            let (number, unit) = rule["for"].as_str().unwrap().split_at(rule["for"].as_str().unwrap().len() - 1);
            assert!(number.parse::<u32>().is_ok() && ["s", "m", "h"].contains(&unit), "{name}");
            assert!(["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
            assert_eq!(keys(&rule["annotations"]), ["summary", "description"], "{name}");
            let words = ["summary", "description"].map(|key| rule["annotations"][key].as_str().unwrap());
            let shown = shown(&words.concat(), "$labels.");
            check(name, rule["expr"].as_str().unwrap(), &shown);
            labels += shown.len();
        }
    }
    assert!(alerts.len() > 10 && labels > 0, "{labels} labels in {alerts:?}");
}
