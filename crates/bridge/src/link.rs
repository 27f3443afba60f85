//! The connection to the NATS server.
//!
//! Late sound is useless. So a message is published only while the server is connected and the client's send queue has room. No message waits for a
//! new connection.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, Message, Subscriber};
use futures_util::stream::{SelectAll, select_all};
use palabre_config::Bridge as Settings;
use palabre_host::exit::Failure;
use palabre_room::Name;
use tokio::sync::mpsc::{Receiver, channel};

use crate::wire::{HEARTBEATS, Kind, room_subject};

/// Maximum number of messages that wait to be sent: less than a second of sound in one room.
const SEND_QUEUE: usize = 48;
/// Maximum number of received messages that wait in one subscription.
const RECEIVE_QUEUE: usize = 512;
/// Maximum number of events of the connection that wait to be handled.
const EVENTS: usize = 64;
/// Timeout for a connection to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between the pings that this process sends to the NATS server. They detect a connection that is dead without an error.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum interval between attempts to connect.
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Maximum size of a file with a seed or credentials, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// The connection. If it ends, the client of `async_nats` connects again by itself.
pub(crate) struct Link {
    client: Client,
    pub(crate) events: Receiver<Event>,
    pub(crate) messages: SelectAll<Subscriber>,
    /// Number of own messages that were not sent, because the server was not connected or too slow.
    pub(crate) unsent: u64,
}

impl Link {
    /// Starts to connect, and subscribes to the messages of other machines. Doesn't wait for the connection.
    pub(crate) async fn open(settings: &Settings, machine: &Name) -> Result<Self, Failure> {
        let (send, events) = channel(EVENTS);
        let options = with_secrets(ConnectOptions::new(), settings)?
            .name(format!("palabre-bridge {machine}"))
            .no_echo()
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .client_capacity(SEND_QUEUE + 3 * settings.rooms.len())
            .subscription_capacity(RECEIVE_QUEUE)
            .reconnect_delay_callback(|attempts| RETRY_MAX.min(Duration::from_millis(50) * attempts.min(100) as u32))
            .event_callback(move |event| {
                let send = send.clone();
                async move { drop(send.try_send(event)) }
            });
        let servers = settings.servers.join(", ");
        let connected = options.connect(settings.servers.clone()).await;
        let client = connected.map_err(|error| {
            Failure::config(format!(
                "unable to use '{servers}' as addresses of NATS servers: {error}; correct 'servers' in [bridge] of palabre.toml"
            ))
        })?;
        let mut subjects = vec![HEARTBEATS.to_owned()];
        for room in &settings.rooms {
            subjects.extend([Kind::Mix, Kind::State, Kind::Text].map(|kind| room_subject(kind, room, "*")));
        }
        let mut subscribers = Vec::new();
        for subject in subjects {
            let subscribed = client.subscribe(subject.clone()).await;
            let error = |error| Failure::system(format!("unable to subscribe to '{subject}' of NATS: {error}"));
            subscribers.push(subscribed.map_err(error)?);
        }
        Ok(Self { client, events, messages: select_all(subscribers), unsent: 0 })
    }

    /// Returns whether the server is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Publishes a message, or counts it as not sent.
    pub(crate) fn publish(&mut self, subject: String, bytes: Vec<u8>) {
        let is_sent = self.is_connected() && {
            let publish = pin!(self.client.publish(subject, bytes.into()));
            // The future puts the message into the client's queue at once. If the queue is full, the future isn't ready, and the message is dropped.
            matches!(publish.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
        };
        if !is_sent {
            self.unsent += 1;
        }
    }

    /// Waits until the queued messages are sent, at most for `timeout`.
    pub(crate) async fn flush(&self, timeout: Duration) {
        let _ = tokio::time::timeout(timeout, self.client.flush()).await;
    }
}

/// A message from the server.
pub(crate) type Received = Message;

fn with_secrets(mut options: ConnectOptions, settings: &Settings) -> Result<ConnectOptions, Failure> {
    if let Some(path) = &settings.credentials {
        let error = |error| {
            Failure::config(format!(
                "unable to use the file '{}' with credentials for NATS: {error}; download it again, or correct 'credentials' in [bridge] of palabre.toml",
                path.display()
            ))
        };
        options = options.credentials(&read_secret(path)?).map_err(error)?;
    }
    if let Some(path) = &settings.nkey {
        options = options.nkey(read_secret(path)?.trim().to_owned());
    }
    if let Some(path) = &settings.ca {
        options = options.add_root_certificates(path.clone());
    }
    Ok(options)
}

fn read_secret(path: &Path) -> Result<String, Failure> {
    const REMEDY: &str = "correct 'nkey' or 'credentials' in [bridge] of palabre.toml";
    let shown = path.display();
    let failed = |error| {
        Failure::config(format!(
            "unable to read '{shown}': {error}; {REMEDY}, or make the file readable by the user of palabre-bridge"
        ))
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_SECRET_BYTES {
        return Err(Failure::config(format!(
            "unable to read '{shown}': it is longer than {MAX_SECRET_BYTES} bytes; {REMEDY}"
        )));
    }
    std::fs::read_to_string(path).map_err(failed)
}
