//! Who may ask: the participant's key, by cookie, by `Authorization: Bearer`, or in the query; and whether a request that
//! writes by cookie comes from the participant's own page.

use crate::http::{Head, Response};
use palabre_config::Moment;
use palabre_config::key::KeyHash;
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
    cookie: String,
    expires: Option<Moment>,
}

impl Door {
    /// A door for the participant of this name, which opens to this key only.
    pub fn new(name: &str, key: KeyHash) -> Self {
        Self { key, cookie: format!("__Host-palabre-{name}"), expires: None }
    }

    /// The same door, which opens to nobody from then on.
    pub fn until(self, expires: Option<Moment>) -> Self {
        Self { expires, ..self }
    }

    /// The proof in this request, if there is a right one and the key still opens.
    pub fn proof(&self, head: &Head) -> Option<Proof> {
        self.shown(head).filter(|_| !self.has_expired())
    }

    /// The answer to a request without a proof: to whoever has the right key, that it opens no longer.
    pub fn refusal(&self, head: &Head) -> Response {
        refusal(head, self.has_expired() && self.shown(head).is_some())
    }

    fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires.has_passed(SystemTime::now()))
    }

    fn shown(&self, head: &Head) -> Option<Proof> {
        let bearer = head.all("authorization").filter_map(bearer_key);
        let deliberate = bearer.chain(head.parameter("key")).any(|key| self.fits(key));
        if deliberate {
            return Some(Proof::Deliberate);
        }
        let mut cookies = head.all("cookie").flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        cookies.any(|(name, key)| name.trim() == self.cookie && self.fits(key.trim())).then_some(Proof::Cookie)
    }

    /// The answer to a request with a right `?key=` on `/`: the cookie, and the page without the key in its address.
    pub fn welcome(&self, key: &str) -> Response {
        let cookie =
            format!("{}={key}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={COOKIE_MAX_AGE_S}", self.cookie);
        Response::new(303).with("Location", "./").with("Set-Cookie", cookie)
    }

    fn fits(&self, key: &str) -> bool {
        self.key.matches(key)
    }
}

fn is_own_origin(head: &Head) -> bool {
    let (Some(origin), Some(host)) = (head.field("origin"), head.field("host")) else {
        return false;
    };
    let Some(origin) = origin.strip_prefix("https://") else {
        return false;
    };
    let bare = |host: &str| host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
    head.all("origin").count() == 1 && bare(origin) == bare(host)
}

/// What everyone without the right key gets: on `/` a page for people, elsewhere a line for programs.
fn refusal(head: &Head, expired: bool) -> Response {
    let (page, line) = match expired {
        false => (PAGE, "the key is missing or wrong; ask for your link"),
        true => (EXPIRED_PAGE, "the key has expired; ask for a new link"),
    };
    let response = match head.path.as_str() {
        "/" => Response::new(401).with_body("text/html; charset=utf-8", page.as_bytes()),
        _ => Response::text(401, line),
    };
    response.with("WWW-Authenticate", "Bearer")
}

fn bearer_key(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

const PAGE: &str = "<!doctype html>
<html lang=fr>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width\">
<title>Palabre</title>
<h1>Palabre</h1>
<p>Cette page s’ouvre avec votre lien personnel, celui qui finit par <code>?key=…</code>.
Demandez-le à la personne qui tient ce serveur : « mon lien Palabre, s’il vous plaît ».
<p lang=en>This page opens with your personal link, the one that ends in <code>?key=…</code>.
Ask the person who runs this server for it: “my Palabre link, please”.
</html>
";

const EXPIRED_PAGE: &str = "<!doctype html>
<html lang=fr>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width\">
<title>Palabre</title>
<h1>Palabre</h1>
<p>Votre lien personnel a expiré. Demandez-en un nouveau à la personne qui tient ce serveur.
<p lang=en>Your personal link has expired. Ask the person who runs this server for a new one.
</html>
";

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
