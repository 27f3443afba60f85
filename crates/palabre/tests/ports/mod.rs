//! Tests how commands treat ports that browsers refuse, and ports that known services use.

use std::fs;

use palabre_config::Participant;

use super::TestConfig;
use crate::common::{stderr, stdout};

/// Ports of the Fetch standard's list of bad ports that are outside the ranges of system ports.
const BAD_PORTS: [u16; 20] = [
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    993,
];

#[test]
fn port_that_browsers_refuse_is_neither_given_nor_accepted() {
    let config = TestConfig::new();
    let ports = |range: &str| {
        let text = format!("bind = \"127.0.0.1\"\nports = \"{range}\"\n");
        fs::write(config.directory.path().join("palabre.toml"), text).unwrap();
    };
    ports("1-65535");
    for port in BAD_PORTS {
        let printed = stderr(&config.palabre(&["invite", "bob", "--port", &port.to_string()]), 1);
        assert!(printed.contains(&format!("browsers don't connect to port {port}")), "{printed}");
    }
    ports("6665-6669");
    let printed = stderr(&config.palabre(&["invite", "bob"]), 1);
    assert!(printed.contains("no port of the range 6665-6669 is free"), "{printed}");
    // 9090: Prometheus; 9091: Pushgateway; 9092: Kafka; 9093 and 9094: Alertmanager
    ports("9090-9094");
    assert!(!config.palabre(&["invite", "bob"]).status.success());
    ports("9190-9200");
    let invited = config.palabre(&["invite", "bob"]);
    assert!(invited.status.success() && (9191..9200).contains(&config.load("bob").port), "{invited:?}");
    stdout(&config.palabre(&["invite", "carol", "--port", "9190"]));
}

#[test]
fn check_finds_every_port_that_browsers_refuse() {
    let config = TestConfig::new();
    let bad: Vec<u16> = (1..=u16::MAX).filter(|port| palabre_config::port::is_refused_by_browsers(*port)).collect();
    assert!(BAD_PORTS.iter().all(|port| bad.contains(port)) && bad.len() == 82);
    stdout(&config.palabre(&["invite", "alice"]));
    let alice = config.load("alice");
    for port in &bad {
        let name = format!("p{port}").parse().unwrap();
        Participant { name, port: *port, ..alice.clone() }.write(config.directory.path()).unwrap();
    }
    let output = config.palabre(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stdout).unwrap();
    for port in bad {
        assert!(text.contains(&format!("browsers don't connect to port {port} of 'p{port}'")), "{port}: {text}");
    }
}
