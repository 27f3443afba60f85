//! Who may ask: the participant's key, by cookie, by `Authorization: Bearer`, or in the query; and whether a request that
//! writes by cookie comes from the participant's own page. A link that opens once opens to the browser that presses its button first,
//! which has a key of its own from then on.

pub mod pages;

use crate::http::{Head, Response};
use pages::Why;
use palabre_config::key::KeyHash;
use palabre_config::{Entrance, Key, Moment};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// How long a browser keeps the cookie: 400 days, the most that browsers accept.
const COOKIE_MAX_AGE_S: u64 = 400 * 24 * 3600;

/// How a request showed the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Deliberately: `Authorization: Bearer` or `?key=`. No page of another origin can have made the browser do that.
    Deliberate,
    /// By the cookie, which a browser sends by itself.
    Cookie,
}

impl Proof {
    /// Whether a request with this proof may write. What a browser sends by itself must come from the page of this very
    /// host and port: RFC 6454 §7.
    pub fn may_write(self, head: &Head) -> bool {
        match self {
            Self::Deliberate => true,
            Self::Cookie => is_own_origin(head),
        }
    }
}

/// The key of a listener, and the cookie that carries it.
#[derive(Debug)]
pub struct Door {
    key: KeyHash,
    once: Option<Once>,
    cookie: String,
    expires: Option<Moment>,
}

/// The door's key is that of a link that opens once.
#[derive(Debug)]
struct Once {
    /// The control socket, where somebody writes down that it has opened.
    supervisor: PathBuf,
    /// The key of the browser that has used it. Locked while one comes in: who comes second finds it used.
    entered: Mutex<Option<KeyHash>>,
}

impl Once {
    fn entered(&self) -> MutexGuard<'_, Option<KeyHash>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of somebody who pressed the button of a link that opens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// Their key opens from now on.
    In,
    /// It could not be written down; the link is as it was.
    NotNow,
    /// It opens to somebody else, or to nobody.
    Not(Why),
}

impl Door {
    /// A door for the participant of this name, which opens to this key only.
    pub fn new(name: &str, key: KeyHash) -> Self {
        Self { key, once: None, cookie: format!("__Host-palabre-{name}"), expires: None }
    }

    /// The same door, which opens to nobody from then on.
    pub fn until(self, expires: Option<Moment>) -> Self {
        Self { expires, ..self }
    }

    /// The same door, whose key opens once: to whoever is first with it, if it wasn't `entrance`.
    pub fn once(self, supervisor: PathBuf, entrance: Option<Entrance>) -> Self {
        let entrance = entrance.filter(|entrance| entrance.link == self.key);
        let entered = Mutex::new(entrance.map(|entrance| entrance.key));
        Self { once: Some(Once { supervisor, entered }), ..self }
    }

    /// Whether there is a button.
    pub fn opens_once(&self) -> bool {
        self.once.is_some()
    }

    /// Somebody has pressed the button: `link` is what they were given, `key` will open. `write_down` says whether that is known
    /// for good now, at the control socket that it is given.
    pub fn enter(&self, link: &str, key: &Key, write_down: impl FnOnce(Entrance, &Path) -> bool) -> Entered {
        let Some(once) = self.once.as_ref().filter(|_| self.key.matches(link)) else {
            return Entered::Not(Why::Stranger);
        };
        if self.has_expired() {
            return Entered::Not(Why::Expired);
        }
        let mut entered = once.entered();
        let entrance = Entrance { link: self.key, key: key.hash() };
        match *entered {
            // Again: the answer didn't arrive.
            Some(theirs) if theirs.matches(key.as_str()) => Entered::In,
            Some(_) => Entered::Not(Why::Used),
            None if write_down(entrance, &once.supervisor) => {
                *entered = Some(entrance.key);
                Entered::In
            }
            None => Entered::NotNow,
        }
    }

    /// The proof in this request, if there is a right one and the key still opens.
    pub fn proof(&self, head: &Head) -> Option<Proof> {
        self.shown(head).filter(|_| !self.has_expired())
    }

    /// The answer to a request without a proof: to whoever has the right key, that it opens no longer.
    pub fn refusal(&self, head: &Head) -> Response {
        let link = self.once.as_ref().zip(keys(head).find(|key| self.key.matches(key)));
        let why = match link {
            _ if self.has_expired() && (link.is_some() || self.shown(head).is_some()) => Why::Expired,
            None => Why::Stranger,
            Some((once, _)) if once.entered().is_some() => Why::Used,
            Some((_, link)) if head.path == "/" && matches!(head.method.as_str(), "GET" | "HEAD") => {
                return match Key::generate() {
                    Ok(key) => pages::door(link, &key, false),
                    Err(error) => Response::text(503, format_args!("unable to make a key: {error}")),
                };
            }
            Some(_) => Why::NotHere,
        };
        why.response(head)
    }

    fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires.has_passed(SystemTime::now()))
    }

    fn shown(&self, head: &Head) -> Option<Proof> {
        if keys(head).any(|key| self.fits(key)) {
            return Some(Proof::Deliberate);
        }
        let mut cookies = head.all("cookie").flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        cookies.any(|(name, key)| name.trim() == self.cookie && self.fits(key.trim())).then_some(Proof::Cookie)
    }

    /// The answer to a request with a `?key=` on `/` that was let in: the cookie, and the page without the key in its address.
    /// Who came in by their cookie and has an old key in the address keeps the cookie.
    pub fn welcome(&self, key: &str) -> Response {
        let response = Response::new(303).with("Location", "./");
        if !self.fits(key) {
            return response;
        }
        let cookie =
            format!("{}={key}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={COOKIE_MAX_AGE_S}", self.cookie);
        response.with("Set-Cookie", cookie)
    }

    fn fits(&self, key: &str) -> bool {
        match &self.once {
            Some(once) => once.entered().is_some_and(|entered| entered.matches(key)),
            None => self.key.matches(key),
        }
    }
}

/// The keys that a request shows deliberately.
fn keys(head: &Head) -> impl Iterator<Item = &str> {
    head.all("authorization").filter_map(bearer_key).chain(head.parameter("key"))
}

/// Whether the page of this very host and port has sent it: RFC 6454 §7.
pub fn is_own_origin(head: &Head) -> bool {
    let (Some(origin), Some(host)) = (head.field("origin"), head.field("host")) else {
        return false;
    };
    let Some(origin) = origin.strip_prefix("https://") else {
        return false;
    };
    let bare = |host: &str| host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
    head.all("origin").count() == 1 && bare(origin) == bare(host)
}

fn bearer_key(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http::head::parse;
    use palabre_config::key::Key;

    fn head(target: &str, fields: &str) -> Head {
        let text = format!("GET {target} HTTP/1.1\r\nHost: Palabre.example:9001\r\n{fields}\r\n");
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    fn door() -> (Door, String) {
        let key = Key::generate().unwrap();
        (Door::new("alice", key.hash()), key.as_str().to_owned())
    }

    #[test]
    fn the_three_ways_of_showing_the_key_are_known() {
        let (door, key) = door();
        let proof = |target: &str, fields: &str| door.proof(&head(target, fields));
        assert_eq!(proof(&format!("/me?key={key}"), ""), Some(Proof::Deliberate));
        assert_eq!(proof("/me", &format!("Authorization: bearer {key}\r\n")), Some(Proof::Deliberate));
        assert_eq!(proof("/me", &format!("Cookie: a=b; __Host-palabre-alice={key}\r\n")), Some(Proof::Cookie));
        assert_eq!(proof("/me", &format!("Cookie: __Host-palabre-bob={key}\r\n")), None);
        assert_eq!(proof("/me", &format!("Authorization: Basic {key}\r\n")), None);
    }

    #[test]
    fn a_wrong_key_opens_nothing() {
        let (door, key) = door();
        for wrong in ["", "0", &key[1..], &format!("{key}0"), &"0".repeat(32), &"é".repeat(16)] {
            assert_eq!(door.proof(&head("/me", &format!("Authorization: Bearer {wrong}\r\n"))), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_that_has_expired_opens_nothing_and_says_so_to_its_owner_alone() {
        let (door, key) = door();
        let moment = |text: &str| Some(text.parse().unwrap());
        let door = door.until(moment("9999-01-01T00:00:00Z"));
        let (right, wrong) = (head(&format!("/?key={key}"), ""), head("/?key=0", ""));
        assert_eq!(door.proof(&right), Some(Proof::Deliberate));
        let door = door.until(moment("2026-01-01T00:00:00Z"));
        assert_eq!(door.proof(&right), None);
        let page = |head: &Head| {
            let mut answer = Vec::new();
            door.refusal(head).write(&mut answer, false, false).unwrap();
            String::from_utf8(answer).unwrap()
        };
        assert!(page(&right).starts_with("HTTP/1.1 401 ") && page(&right).contains("Your personal link has expired"));
        assert!(page(&wrong).contains("This page opens with your personal link"));
        let program = head("/me", &format!("Authorization: Bearer {key}\r\n"));
        assert!(page(&program).ends_with("the key has expired; ask for a new link\n"), "{}", page(&program));
    }

    #[test]
    fn a_key_that_opens_once_opens_to_whoever_was_written_down_and_to_nobody_who_was_not() {
        let (door, link) = door();
        let door = door.once("/nonexistent".into(), None);
        let [first, second] = [(); 2].map(|()| Key::generate().unwrap());
        let is_in = |key: &str| door.proof(&head("/me", &format!("Authorization: Bearer {key}\r\n"))).is_some();
        assert!(!is_in(&link));
        assert_eq!(door.enter(&link, &first, |_, _| false), Entered::NotNow);
        assert_eq!(door.enter(second.as_str(), &first, |_, _| panic!("asked")), Entered::Not(Why::Stranger));
        assert!(!is_in(first.as_str()));
        assert_eq!(door.enter(&link, &second, |entrance, _| entrance.key == second.hash()), Entered::In);
        assert_eq!(door.enter(&link, &second, |_, _| panic!("asked")), Entered::In);
        assert_eq!(door.enter(&link, &first, |_, _| panic!("asked")), Entered::Not(Why::Used));
        assert!(is_in(second.as_str()) && !is_in(first.as_str()) && !is_in(&link));
    }

    #[test]
    fn who_used_another_link_is_nobody_here_and_an_expired_link_has_no_button() {
        let (door, link) = door();
        let (key, old) = (
            Key::generate().unwrap(),
            Entrance {
                link: KeyHash::from_hex(&"0".repeat(64)).unwrap(),
                key: KeyHash::from_hex(&"1".repeat(64)).unwrap(),
            },
        );
        let door = door.once("/nonexistent".into(), Some(old));
        assert_eq!(door.enter(&link, &key, |_, _| false), Entered::NotNow, "unused");
        let door = door.until(Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(door.enter(&link, &key, |_, _| panic!("asked")), Entered::Not(Why::Expired));
        let mut answer = Vec::new();
        door.refusal(&head(&format!("/?key={link}"), "")).write(&mut answer, false, false).unwrap();
        assert!(String::from_utf8(answer).unwrap().contains("has expired"));
    }

    #[test]
    fn only_the_own_origin_may_write_by_cookie() {
        let own = |fields: &str| is_own_origin(&head("/speak", fields));
        assert!(own("Origin: https://palabre.example:9001\r\n"));
        for other in [
            "",
            "Origin: null\r\n",
            "Origin: http://palabre.example:9001\r\n",
            "Origin: https://palabre.example:9002\r\n",
            "Origin: https://palabre.example\r\n",
            "Origin: https://evil.palabre.example:9001\r\n",
            "Origin: https://palabre.example:9001\r\nOrigin: https://evil\r\n",
        ] {
            assert!(!own(other), "{other}");
        }
    }
}
