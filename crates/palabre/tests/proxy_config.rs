//! `palabre proxy-config`: its output, which the real nginx and HAProxy check, and its errors.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use common::{palabre, stderr, stdout};
use palabre_config::{Key, PARTICIPANTS_DIR, Participant, certificate};
use tempfile::TempDir;

const BY_PATH: &str = "https://voice.example.org/{name}/";
const BY_HOST: &str = "https://{name}.voice.example.org/";

/// Returns a directory with a certificate, with this template of the links and with participants on ports 9001, 9002, …
fn config(link: &str, participants: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let tls = directory.path().join("tls");
    fs::create_dir(directory.path().join(PARTICIPANTS_DIR)).and_then(|()| fs::create_dir(&tls)).unwrap();
    certificate::self_signed(&["localhost".into()]).unwrap().write(&tls).unwrap();
    set(directory.path(), &format!("link = \"{link}\"\n"));
    for (name, port) in participants.iter().zip(9001..) {
        invite(directory.path(), name, port);
    }
    directory
}

fn set(directory: &Path, text: &str) {
    fs::write(directory.join("palabre.toml"), text).unwrap();
}

fn invite(directory: &Path, name: &str, port: u16) {
    Participant::new(name.parse().unwrap(), port, Key::generate().unwrap().hash()).write(directory).unwrap();
}

fn proxy_config(directory: &Path, arguments: &[&str]) -> Output {
    palabre().arg("--config").arg(directory).arg("proxy-config").args(arguments).output().unwrap()
}

/// If this test fails, write the files in docs/proxy again with the command that their second line names, and with the configuration of this test.
#[test]
fn files_in_docs_are_the_printed_ones() {
    for (proxy, file, link) in [("nginx", "nginx.conf", BY_PATH), ("haproxy", "haproxy.cfg", BY_HOST)] {
        let printed = stdout(&proxy_config(config(link, &["alice"]).path(), &[proxy]));
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/proxy").join(file);
        assert_eq!(fs::read_to_string(kept).unwrap(), printed, "docs/proxy/{file}");
    }
}

/// Lets nginx check a configuration.
fn check_nginx(directory: &Path, server: &str) {
    let at = directory.display();
    let file = directory.join("nginx.conf");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {at}/{of};"));
    // The comments in the printed configuration show two settings for /etc/nginx/nginx.conf. Take their values from there.
    let setting = |name: &str| {
        let (_, rest) = server.split_once(name).unwrap();
        format!("{name}{};", rest.split_once(';').unwrap().0)
    };
    let (shutdown, connections) = (setting("worker_shutdown_timeout"), setting("worker_connections"));
    let head = format!("pid {at}/nginx.pid; {shutdown} error_log stderr;\nevents {{ {connections} }}\n");
    fs::write(&file, format!("{head}http {{\n{}\n{server}\n}}\n", temporary.concat())).unwrap();
    let checked = Command::new("nginx").args(["-t", "-e", "stderr", "-p"]).arg(directory).arg("-c").arg(&file).output();
    let said = stderr(&checked.unwrap(), 0);
    assert!(!said.contains("[warn]") && said.contains("test is successful"), "{said}\n{server}");
}

/// Lets HAProxy check a configuration. A warning is an error.
fn check_haproxy(directory: &Path, text: &str) {
    let file = directory.join("haproxy.cfg");
    fs::write(&file, text).unwrap();
    let checked = Command::new("haproxy").args(["-c", "-dW", "-f"]).arg(&file).output().unwrap();
    assert!(checked.status.success(), "{checked:?}\n{text}");
}

#[test]
fn nginx_and_haproxy_accept_the_configuration() {
    // nginx opens the port during its check.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for participants in [&[][..], &["zoe", "alice", "b_o-b"]] {
        let directory = config(&format!("https://voice.example.org:{port}/v/{{name}}/"), participants);
        let at = directory.path();
        let (cert, key) = (at.join("tls/cert.pem"), at.join("tls/key.pem"));
        let options = ["nginx", "--certificate", cert.to_str().unwrap(), "--private-key", key.to_str().unwrap()];
        let remote = [&options[..], &["--upstream", "192.0.2.7"]].concat();
        for options in [&options[..], &remote] {
            let text = stdout(&proxy_config(at, options));
            check_nginx(at, &text.replace("    listen [::]:", "    # listen [::]:"));
            assert_eq!(text.contains("proxy_ssl_verify on;"), options.len() > 5, "{text}");
        }
        set(at, &format!("link = \"https://{{name}}.voice.example.org:{port}/\"\n"));
        check_haproxy(at, &stdout(&proxy_config(at, &["haproxy"])));
        let trusting = "[proxy]\naddresses = [\"127.0.0.1\"]\nclient-address = \"proxy-protocol\"\n";
        set(at, &format!("link = \"{BY_HOST}\"\n{trusting}"));
        let text = stdout(&proxy_config(at, &["haproxy"]));
        check_haproxy(at, &text);
        assert_eq!(text.matches(" send-proxy-v2\n").count(), participants.len(), "{text}");
        set(at, &format!("link = \"{BY_PATH}\"\n{trusting}"));
        assert!(stderr(&proxy_config(at, &["nginx"]), 78).contains("nginx doesn't send the PROXY protocol"));
        set(at, &format!("link = \"{BY_HOST}\"\n{}", trusting.replace("proxy-protocol", "x-forwarded-for")));
        assert!(stderr(&proxy_config(at, &["haproxy"]), 78).contains("each client could send any X-Forwarded-For"));
    }
}

#[test]
fn participants_are_in_the_order_of_their_names_and_have_their_ports() {
    let directory = config("https://voice.example.org/talk-{port}/{name}/", &["zoe", "alice"]);
    let text = stdout(&proxy_config(directory.path(), &["nginx", "--upstream", "2001:db8::7"]));
    let parts = [
        "upstream palabre_alice { server [2001:db8::7]:9002;",
        "upstream palabre_zoe { server [2001:db8::7]:9001;",
        "location = /talk-9002/alice { return 301 /talk-9002/alice/$is_args$args; }",
        "location /talk-9002/alice/ { proxy_pass https://palabre_alice/; }",
        "location /talk-9001/zoe/ { proxy_pass https://palabre_zoe/; }",
    ];
    let places: Vec<_> = parts.iter().map(|part| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"))).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn paths_are_absolute() {
    let directory = config(BY_PATH, &["alice"]);
    let arguments = [
        "--config",
        ".",
        "proxy-config",
        "nginx",
        "--upstream",
        "192.0.2.7",
        "--certificate",
        "c",
        "--private-key",
        "k",
    ];
    let text = stdout(&palabre().current_dir(directory.path()).args(arguments).output().unwrap());
    let at = directory.path().display();
    for path in [format!("trusted_certificate {at}/tls/cert.pem;"), format!(" {at}/c;"), format!("key {at}/k;")] {
        assert!(text.contains(&path), "{path}: {text}");
    }
}

#[test]
fn connections_suffice_for_all_participants() {
    let names: Vec<String> = (0..150).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let directory = config(BY_PATH, &names);
    assert!(stdout(&proxy_config(directory.path(), &["nginx"])).contains("worker_connections 1800;"));
    set(directory.path(), &format!("link = \"{BY_HOST}\"\n"));
    assert!(stdout(&proxy_config(directory.path(), &["haproxy"])).contains("maxconn 900\n"));
}

#[test]
fn a_file_is_replaced_or_after_an_error_unchanged() {
    let directory = config(BY_PATH, &["alice"]);
    let (file, link) = (directory.path().join("available"), directory.path().join("enabled"));
    std::os::unix::fs::symlink("available", &link).unwrap();
    fs::write(&file, "previous").unwrap();
    assert_eq!(stdout(&proxy_config(directory.path(), &["nginx", "--out", link.to_str().unwrap()])), "");
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains("location /alice/ ") && link.is_symlink(), "{written}");
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let printed = stderr(&proxy_config(directory.path(), &["nginx", "--out", pipe.to_str().unwrap()]), 111);
    assert!(printed.contains("the path exists and is not a regular file; give the path of a file"), "{printed}");
    invite(directory.path(), "bob", 0);
    stderr(&proxy_config(directory.path(), &["nginx", "--out", file.to_str().unwrap()]), 78);
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn unsuitable_settings_are_refused_with_their_cause() {
    let named = |name: &'static str| move |at: &Path| invite(at, name, 9002);
    let nothing = |_: &Path| ();
    let broken = |at: &Path| fs::write(at.join(PARTICIPANTS_DIR).join("bob.toml"), "prot = 1\n").unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let table: [(&str, &[&str], Make<'_>, i32, &str); 11] = [
        ("https://a.org:{port}/", &["nginx"], &nothing, 78, "lead to the listeners' own ports; set 'link' in '"),
        (
            "https://a.org:{port}/",
            &["haproxy"],
            &nothing,
            78,
            "for example link = \"https://{name}.voice.example.org/\"",
        ),
        (BY_HOST, &["nginx"], &nothing, 78, "have a host name per participant"),
        (BY_PATH, &["haproxy"], &nothing, 78, "have a path per participant"),
        ("https://{name}.a.org/v/", &["haproxy"], &nothing, 78, "have a path, which HAProxy can't remove"),
        (
            BY_HOST,
            &["haproxy"],
            &named("a-"),
            78,
            "unable to configure a proxy for 'a-': the link 'https://a-.voice.example.org/'",
        ),
        (BY_PATH, &["nginx"], &|at| invite(at, "bob", 0), 78, "unable to configure a proxy for 'bob': 'port' is 0"),
        (BY_PATH, &["nginx"], &broken, 78, "bob.toml', line 1: "),
        (BY_PATH, &["nginx", "--certificate", "/a b", "--private-key", "/c"], &nothing, 2, "unable to write '/a b'"),
        (BY_HOST, &["haproxy", "--certificate", "/a", "--private-key", "/c"], &nothing, 2, "are for nginx"),
        (BY_PATH, &["apache"], &nothing, 2, "[possible values: nginx, haproxy]"),
    ];
    for (link, arguments, make, code, cause) in table {
        let directory = config(link, &["alice"]);
        make(directory.path());
        let output = proxy_config(directory.path(), arguments);
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = stderr(&output, code);
        assert!(said.contains(cause), "{link} {arguments:?}: {said}");
    }
}
