//! Creates the server from the command line and the configuration.

use crate::api::Api;
use crate::auth::{Authenticator, Cookies};
use crate::certificate::Certificate;
use crate::cli::Args;
use crate::codec;
use crate::ear::Ear;
use crate::handover::Handover;
use crate::hsts::Hsts;
use crate::me::Me;
use crate::meeting::Meeting;
use crate::mic::MicWriter;
use crate::page;
use crate::sandbox::Files;
use crate::server::Server;
use crate::source::Origin;
use crate::state::Listener;
use crate::tls;
use crate::waker::Waker;
use anyhow::{Context as _, Result, anyhow};
use palabre_config::control::LOCK_FILE;
use palabre_config::{
    CookieKey, CookieSecret, Key, ListenerSettings, Participant, SandboxSetting, SettingsError, certificate,
};
use palabre_host::exit::Failure;
use palabre_host::lock::Lock;
use palabre_host::sandbox::Strictness;
use palabre_host::sockets::Given;
use palabre_host::{inherit, logging, process, sockets};
use palabre_room::{Format, Gain, Levelling, Name, Rate, RoomDir, RoomError};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Name of the participant with `--source`. It is part of the cookie's name.
const SOURCE_NAME: &str = "source";
/// Default port with `--source`.
const SOURCE_PORT: u16 = 9001;
/// Maximum length of a file with an access key.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Runs the listener until a signal ends it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(parent) = args.parent_pid {
        process::die_with_parent(parent).map_err(Failure::system)?;
    }
    if args.check_certificate {
        let server = palabre_config::Server::load(&args.config).map_err(Failure::config)?;
        return tls::load(&server.certificate, &server.private_key).map(drop).map_err(Failure::config);
    }
    let instance = args.name.as_ref().map_or(SOURCE_NAME, Name::as_str);
    logging::init("palabre-listener", Some(instance), args.verbose);
    let inherited =
        sockets::inherited().map_err(|e| Failure::system(format!("unable to use the inherited sockets: {e}")))?;
    process::protect();
    process::share_with_the_group_only();
    if let Err(error) = process::raise_nofile() {
        log::warn!("unable to raise the limit of open files: {error}");
    }
    let _lock = args.make_room.then(|| without_supervisor(&args.run)).transpose()?;
    let (server, files, strictness) = match (&args.name, &args.source) {
        (Some(name), _) if args.probe => return probe(args, name),
        (_, Some(source)) => serve_file(args, source, inherited.listener)?,
        (Some(name), None) => serve_participant(args, name, inherited)?,
        (None, None) => {
            return Err(Failure::usage("missing argument: give the name of a participant or --source FILE"));
        }
    };
    let enforced = files.enter(strictness).map_err(Failure::config)?;
    log::debug!("sandbox: {enforced}");
    server.run(enforced, files.permitted(enforced).as_ref()).map_err(Failure::system)
}

/// Returns, by the setting of the sandbox, whether the listener may run without its sandbox.
fn strictness(setting: SandboxSetting) -> Strictness {
    match setting {
        SandboxSetting::Required => Strictness::Required,
        SandboxSetting::BestEffort => Strictness::BestEffort,
        SandboxSetting::Off => Strictness::Off,
    }
}

/// Checks that no supervisor serves the participants of the runtime directory. The returned lock keeps a supervisor from starting.
fn without_supervisor(run: &Path) -> Result<Lock, Failure> {
    let path = run.join(LOCK_FILE);
    match Lock::share(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Failure::config(format!(
            "unable to serve without a supervisor: palabre-supervisor serves the participants of '{}'; to end it and all connections, \
             run 'systemctl disable --now palabre-supervisor'",
            run.display()
        ))),
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::NotFound => "; make the runtime directory, or give another one with --run",
                ErrorKind::PermissionDenied => "; run the listener as the owner of the runtime directory",
                _ => "",
            };
            Err(Failure::system(format!("unable to lock '{}': {error}{remedy}", path.display())))
        }
    }
}

/// Checks that the files of the configuration can be used.
fn probe(args: &Args, name: &Name) -> Result<(), Failure> {
    let config = palabre_config::Server::load(&args.config).map_err(Failure::config)?;
    Participant::load(&args.config, name).map_err(Failure::config)?;
    Certificate::from_files(config.certificate, config.private_key).map_err(Failure::config).map(drop)
}

/// A server that was not started, the files that it needs in its sandbox, and whether it may run without the sandbox.
type Prepared = (Server, Files, Strictness);

fn serve_participant(args: &Args, name: &Name, inherited: Given) -> Result<Prepared, Failure> {
    let mut config = palabre_config::Server::load(&args.config).map_err(Failure::config)?;
    let (participant, cookie_key) = participant(args, name)?;
    if let (Some(certificate), Some(private_key)) = (&args.certificate, &args.private_key) {
        config.certificate.clone_from(certificate);
        config.private_key.clone_from(private_key);
    }
    let room = RoomDir::new(args.run.join("rooms").join(&participant.room));
    let directory = room.participant(name);
    if args.make_room {
        make_room(&config, &participant, &room).map_err(Failure::system)?;
    }
    if let Err(error) = room.create_shared() {
        log::warn!(
            "{error}; until this is corrected, this listener may show no participants and keep no text messages"
        );
    }
    let format = room.format().map_err(Failure::config)?;
    let levelling = [room.levelling(), directory.levelling()].map(|read| {
        read.unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        })
    });
    let chunk_ms = args.chunk_ms.unwrap_or(config.chunk_ms);
    let me = Me {
        name: name.to_string(),
        display: participant.display().to_owned(),
        room: participant.room.to_string(),
        rate_hz: format.rate.hz(),
        chunk_ms,
        levelling: Levelling::is_on(levelling[1], levelling[0]),
        join_muted: participant.join_muted,
        listen_only: participant.listen_only,
        codec: codec::choice(config.codec),
        recording: false,
        own_name: config.own_display_names,
        page: page::version(),
    };
    let files = Files::default().of_participant(room.clone(), name.clone());
    let (certificate, files) = match inherited.signer {
        Some(signer) => (Certificate::from_signer(signer)?, files),
        // The supervisor has passed no connection to palabre-signer. So this process reads the certificate's private key itself.
        None => {
            let files = files.reading(&[config.certificate.clone(), config.private_key.clone()]);
            (Certificate::from_files(config.certificate, config.private_key).map_err(Failure::config)?, files)
        }
    };
    let meeting = Meeting::new(room.clone(), directory.clone(), config.texts_for_latecomers);
    let supervisor = args.run.join("control.sock");
    let api = Api::new(name.clone(), me.room.clone(), directory.clone(), meeting);
    let api = if me.own_name { api.with_own_name(supervisor.clone()) } else { api };
    let handover = Arc::new(Handover::new(Some(directory.clone()), Instant::now()));
    let ear = Origin::Pipe(directory.clone());
    let ear = Ear::new(ear, Some(room), (format, chunk_ms), config.limits.streams, Arc::clone(&handover));
    let main_thread = Arc::new(Waker::new().map_err(Failure::system)?);
    let mic = || MicWriter::new(directory.mic(), format, Arc::clone(&main_thread));
    let microphone = (!participant.listen_only).then(mic);
    let cookies = Cookies::with_key(name.as_str(), &cookie_key).signed_out(participant.signed_out);
    let auth = Authenticator::new(participant.key_sha256, cookies)
        .expires(participant.key_expires)
        .suspended(participant.suspended);
    let auth = match participant.key_once {
        true => auth.invitation(supervisor, args.entered),
        false => auth,
    };
    let auth = (auth, config.proxy, Hsts::new(config.hsts_days));
    let listener = Listener::new(
        &me,
        (format, config.codec),
        auth,
        (handover, ear),
        (microphone, Some(api)),
        certificate,
        main_thread,
    );
    let port = args.port.unwrap_or(participant.port);
    let socket = socket(inherited.listener, config.bind, port).map_err(Failure::system)?;
    if let Ok(address) = socket.local_addr() {
        log::debug!("serving on {address}");
    }
    let server = Server::new(socket, Arc::new(listener), config.limits.connections);
    Ok((server.map_err(Failure::system)?, files, strictness(config.sandbox)))
}

/// Returns the participant's settings and the key for the participant's cookies. Reads them from standard input, or without
/// `--settings-on-stdin` from the files.
fn participant(args: &Args, name: &Name) -> Result<(Participant, CookieKey), Failure> {
    if args.settings_on_stdin {
        let input = inherit::take_stdin().map_err(Failure::system)?;
        let settings = ListenerSettings::read(name, input).map_err(|error| match error {
            SettingsError::Io(_) => Failure::system(error),
            _ => Failure::config(error),
        })?;
        return Ok((settings.participant, settings.cookie_key));
    }
    let participant = Participant::load(&args.config, name).map_err(Failure::config)?;
    let secret = cookie_secret(args).map_err(Failure::system)?;
    Ok((participant, secret.key_of(name.as_str())))
}

/// Returns the installation's secret for cookies from the directory of `--links`. If the secret can't be read or created there, returns a secret in the
/// runtime directory, which lasts until the machine restarts.
fn cookie_secret(args: &Args) -> Result<CookieSecret> {
    CookieSecret::load(&args.links).or_else(|error| {
        log::warn!(
            "{error}; after a restart of this machine, each browser must open the link again; \
             correct the directory of --links, then restart this listener"
        );
        Ok(CookieSecret::load(&args.run)?)
    })
}

/// Creates the directory of the room and the participant's pipes, as the supervisor does. This doesn't create the file `names`, so the
/// page's list of people is empty.
fn make_room(config: &palabre_config::Server, participant: &Participant, room: &RoomDir) -> Result<(), RoomError> {
    if !room.path().exists() {
        room.create(config.format)?;
        room.set_levelling(Some(config.levelling.into()))?;
    }
    // A supervisor that was killed leaves the file `.no-mixer` behind. Without a supervisor, no program updates this file.
    room.set_no_mixer(false)?;
    let directory = room.participant(&participant.name);
    directory.create()?;
    let gain = participant.gain_db.map(Gain::Db);
    directory.set_gain(if participant.muted { Some(Gain::Mute) } else { gain })
}

fn serve_file(args: &Args, source: &Path, inherited: Option<TcpListener>) -> Result<Prepared, Failure> {
    let config = palabre_config::Server::default();
    let format = file_format(source);
    let chunk_ms = args.chunk_ms.unwrap_or(config.chunk_ms);
    let key = source_key(args.key_file.as_deref()).map_err(Failure::config)?;
    let certificate = source_certificate(args, &config.host).map_err(Failure::config)?;
    let me = Me {
        name: SOURCE_NAME.into(),
        display: source.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        room: SOURCE_NAME.into(),
        rate_hz: format.rate.hz(),
        chunk_ms,
        levelling: false,
        join_muted: true,
        listen_only: true,
        codec: codec::choice(config.codec),
        recording: false,
        own_name: false,
        page: page::version(),
    };
    let handover = Arc::new(Handover::new(None, Instant::now()));
    let ear = Origin::File(source.to_owned());
    let ear = Ear::new(ear, None, (format, chunk_ms), config.limits.streams, Arc::clone(&handover));
    // A listener that plays a file has no directory for the secret, so it makes cookies from the access key.
    let auth = Authenticator::new(key.hash(), Cookies::new(SOURCE_NAME, key.as_str().as_bytes()));
    let main_thread = Arc::new(Waker::new().map_err(Failure::system)?);
    let auth = (auth, config.proxy, Hsts::new(config.hsts_days));
    let listener =
        Listener::new(&me, (format, config.codec), auth, (handover, ear), (None, None), certificate, main_thread);
    let socket = socket(inherited, config.bind, args.port.unwrap_or(SOURCE_PORT)).map_err(Failure::system)?;
    let port = socket.local_addr().map_err(Failure::system)?.port();
    println!("{}", config.links.link(SOURCE_NAME, port, &key));
    let tls = [&args.certificate, &args.private_key].into_iter().flatten().cloned();
    let files = Files::default().reading(&tls.chain([source.to_owned()]).collect::<Vec<_>>());
    let server = Server::new(socket, Arc::new(listener), config.limits.connections);
    Ok((server.map_err(Failure::system)?, files, strictness(config.sandbox)))
}

fn socket(inherited: Option<TcpListener>, bind: std::net::IpAddr, port: u16) -> Result<TcpListener> {
    match inherited {
        Some(socket) => Ok(socket),
        None => sockets::listen(bind, port).map_err(|error| anyhow!(sockets::explain(bind, port, &error))),
    }
}

/// Returns the format for streaming a WAV file: the file's own rate if rooms support this rate, otherwise 24000 Hz for lower rates and
/// 48000 Hz for higher rates. Returns 24000 Hz if the file doesn't exist.
fn file_format(source: &Path) -> Format {
    let head = File::open(source).ok().and_then(|mut file| palabre_sound::wav::Head::read(&mut file).ok());
    let rate_hz = head.map_or(24_000, |head| head.rate_hz);
    let own = Rate::try_from(rate_hz).or_else(|_| Rate::try_from(if rate_hz > 24_000 { 48_000 } else { 24_000 }));
    own.map_or_else(|_| Format::default(), |rate| Format { rate })
}

fn source_key(file: Option<&Path>) -> Result<Key> {
    let Some(path) = file else {
        return Key::generate().context("unable to create an access key");
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text))
        .with_context(|| format!("unable to read '{}'", path.display()))?;
    Key::parse(text.trim()).map_err(|error| anyhow!("unable to use the key file '{}': {error}", path.display()))
}

fn source_certificate(args: &Args, host: &str) -> Result<Certificate> {
    if let (Some(certificate), Some(private_key)) = (args.certificate.clone(), args.private_key.clone()) {
        return Certificate::from_files(certificate, private_key);
    }
    let hosts = [host.to_owned(), "127.0.0.1".into(), "::1".into()];
    let own = certificate::self_signed(&hosts).context("unable to create a self-signed certificate")?;
    log::info!(
        "created a self-signed certificate for {}; the SHA-256 pin of its public key is {}",
        hosts.join(", "),
        own.spki_pin_base64
    );
    Ok(Certificate::fixed(tls::config(own.cert_pem.as_bytes(), own.key_pem.as_bytes())?))
}
