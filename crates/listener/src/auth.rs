//! Authenticates requests by the participant's access key in `Authorization: Bearer` or in the query, or by the cookie that a browser got for
//! this key. A request with a cookie may change something only if this server's own page sent it.
//!
//! An invitation link works once: the first browser whose user presses the button on the link's page gets its own access key.

mod cookie;
pub(crate) mod pages;

use crate::http::{Head, Response};
pub(crate) use cookie::Cookies;
use pages::Denial;
use palabre_config::key::KeyHash;
use palabre_config::{Entrance, Key, Moment};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// How a request carries its access key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// `Authorization: Bearer` or `?key=`. A page of another origin can't make a browser send these.
    Explicit,
    /// The cookie, which a browser adds by itself.
    Cookie,
    /// A cookie of the former format, which contains the access key itself. The response must replace it: [`Authenticator::new_cookie`].
    FormerCookie,
}

impl Credential {
    /// Returns whether the request `head` may change anything. A request with a cookie may do so only if a page of this host and port sent
    /// it: RFC 6454 §7.
    pub(crate) fn may_write(self, head: &Head) -> bool {
        match self {
            Self::Explicit => true,
            Self::Cookie | Self::FormerCookie => is_own_origin(head),
        }
    }

    /// Returns whether the request `head` is answered at all. A browser adds the cookie also to requests that a page of another site or another
    /// port of this host makes. Such a page may only open the participant's page as a whole, for example by a link: Fetch Metadata Request
    /// Headers §2. Browsers without these fields are not restricted.
    pub(crate) fn may_ask(self, head: &Head) -> bool {
        let opens_page = || {
            let is = |name, value| head.field(name) == Some(value);
            head.path == "/"
                && head.method == "GET"
                && is("sec-fetch-mode", "navigate")
                && is("sec-fetch-dest", "document")
        };
        self == Self::Explicit || !is_foreign(head) || opens_page()
    }
}

/// Checks access keys for one participant.
#[derive(Debug)]
pub(crate) struct Authenticator {
    key: KeyHash,
    invitation: Option<Invitation>,
    cookies: Cookies,
    expires: Option<Moment>,
    suspended: bool,
}

/// The state of a one-time invitation link. The key in the link is the field `key` of the [`Authenticator`].
#[derive(Debug)]
struct Invitation {
    /// The control socket of the supervisor, which records that the link was used.
    supervisor: PathBuf,
    /// The access key of the browser that used the link. The mutex is locked while a browser uses the link, so only one browser can use it.
    browser: Mutex<Option<KeyHash>>,
}

impl Invitation {
    fn browser(&self) -> MutexGuard<'_, Option<KeyHash>> {
        self.browser.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of pressing the button of a one-time invitation link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redemption {
    /// The browser's new access key is valid.
    Accepted,
    /// The supervisor could not record the use; the link is still unused.
    NotRecorded,
    /// The link is not valid for this browser.
    Denied(Denial),
}

/// Why the access key of a request isn't valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFault {
    /// The participant has no such key.
    Wrong,
    /// The participant has no such key, and a page of another site or port made the browser send it.
    Foreign,
    /// The key has expired, or belongs to an invitation link that was used before, or the request has an old cookie.
    Old,
    /// The key is correct, but the participant is suspended.
    Suspended,
}

impl Authenticator {
    /// Creates an authenticator for the participant with this access key. `cookies` makes and checks the participant's cookies.
    pub(crate) fn new(key: KeyHash, cookies: Cookies) -> Self {
        Self { key, invitation: None, cookies, expires: None, suspended: false }
    }

    /// Sets the time from which the access key is no longer valid.
    pub(crate) fn expires(self, expires: Option<Moment>) -> Self {
        Self { expires, ..self }
    }

    /// Sets whether the operator has suspended the participant, so that the access key isn't valid at present.
    pub(crate) fn suspended(self, suspended: bool) -> Self {
        Self { suspended, ..self }
    }

    /// Makes the authenticator's key the key of a one-time invitation link. `supervisor` is the path of the supervisor's control socket;
    /// the supervisor records that the link was used. `entrance` is the recorded use of a link; it is ignored if it belongs to an earlier
    /// link.
    pub(crate) fn invitation(self, supervisor: PathBuf, entrance: Option<Entrance>) -> Self {
        let entrance = entrance.filter(|entrance| entrance.link == self.key);
        let browser = Mutex::new(entrance.map(|entrance| entrance.key));
        Self { invitation: Some(Invitation { supervisor, browser }), ..self }
    }

    /// Returns whether the participant has a one-time invitation link.
    pub(crate) fn has_invitation(&self) -> bool {
        self.invitation.is_some()
    }

    /// Uses the one-time invitation link whose key is `link`; `key` becomes the browser's access key. `record` gets the path of the
    /// supervisor's control socket, and returns whether the supervisor recorded the use.
    pub(crate) fn redeem(&self, link: &str, key: &Key, record: impl FnOnce(Entrance, &Path) -> bool) -> Redemption {
        let Some(invitation) = self.invitation.as_ref().filter(|_| self.key.matches(link)) else {
            return Redemption::Denied(Denial::Unauthenticated);
        };
        if let Some(denial) = self.obstacle() {
            return Redemption::Denied(denial);
        }
        let mut browser = invitation.browser();
        let entrance = Entrance { link: self.key, key: key.hash() };
        match *browser {
            // The browser that used the link sends its request again, because it didn't receive the first response.
            Some(theirs) if theirs.matches(key.as_str()) => Redemption::Accepted,
            Some(_) => Redemption::Denied(Denial::Used),
            None if record(entrance, &invitation.supervisor) => {
                *browser = Some(entrance.key);
                Redemption::Accepted
            }
            None => Redemption::NotRecorded,
        }
    }

    /// Returns how this request carries its access key. Returns `None` if the request has no valid access key.
    pub(crate) fn authenticate(&self, head: &Head) -> Option<Credential> {
        self.credential(head).filter(|_| self.obstacle().is_none())
    }

    /// Returns the response to an unauthenticated request. It says "suspended", "expired" or "used" only if the key itself is correct.
    pub(crate) fn unauthorized(&self, head: &Head) -> Response {
        let link = self.invitation.as_ref().zip(keys(head).find(|key| self.key.matches(key)));
        let is_correct = || link.is_some() || self.credential(head).is_some();
        if let Some(denial) = self.obstacle().filter(|_| is_correct()) {
            return denial.response(head);
        }
        let denial = match link {
            None => Denial::Unauthenticated,
            Some((invitation, _)) if invitation.browser().is_some() => Denial::Used,
            Some((_, link)) if head.path == "/" && matches!(head.method.as_str(), "GET" | "HEAD") => {
                return match Key::generate() {
                    Ok(key) => pages::invitation(link, &key, false),
                    Err(error) => {
                        Response::text(503, format_args!("unable to create an access key: {error}; reload the page"))
                    }
                };
            }
            Some(_) => Denial::NeedsBrowser,
        };
        denial.response(head)
    }

    /// Returns why the access key of an unauthenticated request isn't valid. Returns `None` if the request has no key, or the key of an
    /// unused invitation link.
    pub(crate) fn key_fault(&self, head: &Head) -> Option<KeyFault> {
        self.given_key(head)?;
        let is_genuine = |cookie| self.valid_key().is_some_and(|key| self.cookies.is_genuine(cookie, key));
        let is_known = keys(head).any(|key| self.key.matches(key) || self.accepts(key))
            || self.cookies(head).any(|cookie| is_genuine(cookie) || self.accepts(cookie));
        let is_unused = self.invitation.as_ref().is_some_and(|invitation| invitation.browser().is_none());
        // An unknown cookie counts as old, not as wrong: the operator may have replaced the access key, or the secret of the
        // cookies. Clients don't guess cookies, because the code in a cookie has 256 bits.
        let only_cookies = || keys(head).all(str::is_empty) && self.cookies(head).all(Cookies::is_well_formed);
        match (is_known, self.obstacle()) {
            (false, _) if is_foreign(head) => Some(KeyFault::Foreign),
            (false, _) if only_cookies() => Some(KeyFault::Old),
            (false, _) => Some(KeyFault::Wrong),
            (true, Some(Denial::Suspended)) => Some(KeyFault::Suspended),
            (true, expired) => (expired.is_some() || !is_unused).then_some(KeyFault::Old),
        }
    }

    /// Returns the first access key of a request. Returns the value of the first cookie if the request has no access key.
    pub(crate) fn given_key<'a>(&'a self, head: &'a Head) -> Option<&'a str> {
        keys(head).chain(self.cookies(head)).find(|key| !key.is_empty())
    }

    /// Returns why even a correct access key isn't valid at present.
    fn obstacle(&self) -> Option<Denial> {
        let has_expired = || self.expires.is_some_and(|expires| expires.has_passed(SystemTime::now()));
        match self.suspended {
            true => Some(Denial::Suspended),
            false => has_expired().then_some(Denial::Expired),
        }
    }

    fn credential(&self, head: &Head) -> Option<Credential> {
        if keys(head).any(|key| self.accepts(key)) {
            return Some(Credential::Explicit);
        }
        let (key, now) = (self.valid_key()?, SystemTime::now());
        if self.cookies(head).any(|cookie| self.cookies.opens(cookie, key, now)) {
            return Some(Credential::Cookie);
        }
        // After any sign-out, cookies of the former format are refused: they contain no time, so they may be older. An open page requests
        // `/me` when its stream has ended, and gets a new cookie then.
        let is_former = || !self.cookies.has_signed_out() && self.cookies(head).any(|cookie| self.accepts(cookie));
        let is_replaced = matches!((head.method.as_str(), head.path.as_str()), ("GET", "/" | "/me"));
        (is_replaced && is_former()).then_some(Credential::FormerCookie)
    }

    /// Returns the values of this participant's cookies.
    fn cookies<'a>(&'a self, head: &'a Head) -> impl Iterator<Item = &'a str> {
        self.cookies.values(head.all("cookie"))
    }

    /// Returns the response to an authenticated request of `/?key=KEY`, where `key` is KEY: a redirect to `/`, which sets the cookie if `key` is
    /// valid. A browser with a valid cookie and an outdated key in the address keeps its cookie.
    pub(crate) fn sign_in(&self, key: &str) -> Response {
        let response = Response::new(303).with("Location", "./");
        match self.new_cookie().filter(|_| self.accepts(key)) {
            Some(cookie) => response.with("Set-Cookie", cookie),
            None => response,
        }
    }

    /// Returns the value of the field `Set-Cookie` for a browser that has shown the valid access key. Returns `None` if the invitation link is
    /// unused.
    pub(crate) fn new_cookie(&self) -> Option<String> {
        self.valid_key().map(|key| self.cookies.issue(key, SystemTime::now()))
    }

    fn accepts(&self, key: &str) -> bool {
        self.valid_key().is_some_and(|valid| valid.matches(key))
    }

    /// Returns the hash of the valid access key. With a one-time link, this is the key of the browser that used it, or `None` while it is unused.
    fn valid_key(&self) -> Option<KeyHash> {
        match &self.invitation {
            Some(invitation) => *invitation.browser(),
            None => Some(self.key),
        }
    }
}

/// Returns the keys in the `Authorization` fields and the query of a request.
fn keys(head: &Head) -> impl Iterator<Item = &str> {
    head.all("authorization").filter_map(bearer_key).chain(head.parameter("key"))
}

/// Returns whether a page of this host and port sent the request: RFC 6454 §7.
pub(crate) fn is_own_origin(head: &Head) -> bool {
    let (Some(origin), Some(host)) = (head.field("origin"), head.field("host")) else {
        return false;
    };
    let Some(origin) = origin.strip_prefix("https://") else {
        return false;
    };
    let bare = |host: &str| host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
    head.all("origin").count() == 1 && bare(origin) == bare(host)
}

/// Returns whether the browser says that a page of another origin made it send this request: Fetch Metadata Request Headers §2.
fn is_foreign(head: &Head) -> bool {
    !matches!(head.field("sec-fetch-site"), None | Some("same-origin" | "none"))
}

fn bearer_key(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

#[cfg(test)]
mod tests;
