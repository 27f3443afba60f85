//! TCP ports that participants shouldn't get: ports that browsers refuse, and default ports of well-known services.

/// The bad ports of the Fetch standard (section 2.9, port blocking), to which no browser connects.
const BAD: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
    540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
    6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Default ports of services that often run on the same machine, in ascending order.
const SERVICES: [(u16, &str); 61] = [
    (1080, "SOCKS"),
    (1194, "OpenVPN"),
    (1433, "Microsoft SQL Server"),
    (1521, "Oracle"),
    (1883, "MQTT"),
    (2181, "ZooKeeper"),
    (2375, "Docker"),
    (2376, "Docker"),
    (2379, "etcd"),
    (2380, "etcd"),
    (3000, "Grafana"),
    (3100, "Loki"),
    (3128, "Squid"),
    (3306, "MySQL"),
    (3389, "RDP"),
    (3478, "TURN"),
    (4222, "NATS"),
    (5000, "Docker registry"),
    (5222, "XMPP"),
    (5269, "XMPP"),
    (5353, "mDNS"),
    (5432, "PostgreSQL"),
    (5601, "Kibana"),
    (5672, "AMQP"),
    (5900, "VNC"),
    (6379, "Redis"),
    (6443, "Kubernetes"),
    (7000, "Cassandra"),
    (8006, "Proxmox"),
    (8080, "HTTP proxy"),
    (8086, "InfluxDB"),
    (8443, "HTTPS"),
    (8883, "MQTT"),
    (9042, "Cassandra"),
    (9050, "Tor"),
    (9051, "Tor"),
    (9090, "Prometheus, Cockpit"),
    (9091, "Prometheus Pushgateway"),
    (9092, "Kafka"),
    (9093, "Alertmanager"),
    (9094, "Alertmanager"),
    (9100, "node_exporter"),
    (9104, "mysqld_exporter"),
    (9113, "nginx exporter"),
    (9114, "Elasticsearch exporter"),
    (9115, "blackbox_exporter"),
    (9116, "snmp_exporter"),
    (9117, "Apache exporter"),
    (9121, "Redis exporter"),
    (9150, "Memcached exporter"),
    (9187, "postgres_exporter"),
    (9190, "palabre-exporter"),
    (9200, "Elasticsearch"),
    (9256, "process-exporter"),
    (9300, "Elasticsearch"),
    (9308, "Kafka exporter"),
    (9418, "git"),
    (9600, "Logstash"),
    (10050, "Zabbix"),
    (10051, "Zabbix"),
    (27017, "MongoDB"),
];

/// Returns whether browsers refuse to connect to `port`.
#[must_use]
pub fn is_refused_by_browsers(port: u16) -> bool {
    BAD.contains(&port)
}

/// Returns the well-known service whose default port is `port`.
#[must_use]
pub fn service(port: u16) -> Option<&'static str> {
    SERVICES.iter().find(|(known, _)| *known == port).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_one_service_and_no_browser_refuses_it() {
        assert!(SERVICES.is_sorted_by(|one, other| one.0 < other.0));
        assert!(SERVICES.iter().all(|(port, _)| !is_refused_by_browsers(*port)));
    }
}
