//! The cookie of a browser that has opened the participant's link. The cookie contains the time at which the browser got it, and a message
//! authentication code (HMAC, RFC 2104) of this time and of the hash of the access key. It doesn't contain the access key. So another service
//! that gets the cookie doesn't learn the access key, and a new access key makes the cookie invalid.

use palabre_config::{CookieKey, KeyHash, Moment, hex};
use ring::hmac;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lifetime of a cookie: 400 days, the maximum that browsers accept.
const MAX_AGE: Duration = Duration::from_secs(400 * 24 * 3600);

/// Makes and checks the cookies of one participant.
#[derive(Debug)]
pub(crate) struct Cookies {
    name: String,
    key: hmac::Key,
    /// Seconds from 1970 to the time at which the operator signed out all browsers.
    signed_out_s: u64,
}

impl Cookies {
    /// Derives the key for the cookies of the participant `name` from a secret, which isn't kept.
    pub(crate) fn new(name: &str, secret: &[u8]) -> Self {
        Self::with_key(name, &CookieKey::derive(name, secret))
    }

    /// Uses this key for the cookies of the participant `name`.
    pub(crate) fn with_key(name: &str, key: &CookieKey) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        Self { name: format!("__Host-palabre-{name}"), key, signed_out_s: 0 }
    }

    /// Makes all cookies invalid that browsers got until this time.
    pub(crate) fn signed_out(self, until: Option<Moment>) -> Self {
        let seconds = until.map_or(0, |until| until.seconds_from(UNIX_EPOCH));
        Self { signed_out_s: u64::try_from(seconds).unwrap_or_default(), ..self }
    }

    /// Returns the value of the field `Set-Cookie` for a browser that has shown the access key with this hash.
    pub(crate) fn issue(&self, key: KeyHash, now: SystemTime) -> String {
        // The operator may have signed out the browsers in this second. The new cookie must be valid nevertheless.
        let time_s = seconds(now).max(self.signed_out_s + 1);
        let code = hmac::sign(&self.key, &message(time_s, key));
        format!(
            "{}={time_s}.{}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
            self.name,
            hex::encode(code.as_ref()),
            MAX_AGE.as_secs()
        )
    }

    /// Returns whether a cookie with this value is valid at `now`. `key` is the hash of the participant's access key.
    pub(crate) fn opens(&self, value: &str, key: KeyHash, now: SystemTime) -> bool {
        let is_current = |time_s| time_s > self.signed_out_s && seconds(now) < time_s + MAX_AGE.as_secs();
        self.time_of(value, key).is_some_and(is_current)
    }

    /// Returns whether this value was issued for the access key with this hash. The cookie may have expired or been signed out.
    pub(crate) fn is_genuine(&self, value: &str, key: KeyHash) -> bool {
        self.time_of(value, key).is_some()
    }

    /// Returns whether this value has the form of a cookie. Only [`Self::is_genuine`] says whether this installation has made it.
    pub(crate) fn is_well_formed(value: &str) -> bool {
        parse(value).is_some()
    }

    /// Returns whether the operator has signed out the browsers since the participant was invited.
    pub(crate) fn has_signed_out(&self) -> bool {
        self.signed_out_s > 0
    }

    /// Returns the values of this participant's cookies among the fields `Cookie` of a request.
    pub(crate) fn values<'a>(&'a self, fields: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
        let cookies = fields.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        cookies.filter(|(name, _)| name.trim() == self.name).map(|(_, value)| value.trim())
    }

    /// Returns the time in a cookie, in s since 1970. Returns `None` if the cookie was not issued for the access key with this hash.
    fn time_of(&self, value: &str, key: KeyHash) -> Option<u64> {
        let (time_s, code) = parse(value)?;
        // `hmac::verify` compares in constant time.
        hmac::verify(&self.key, &message(time_s, key), &code).ok().map(|()| time_s)
    }
}

/// Returns the time and the code in a cookie.
fn parse(value: &str) -> Option<(u64, [u8; 32])> {
    let (time, code) = value.split_once('.')?;
    let is_number = !time.is_empty() && time.len() <= 12 && time.bytes().all(|digit| digit.is_ascii_digit());
    Some((time.parse().ok().filter(|_| is_number)?, hex::decode(code)?))
}

/// Returns the message that the code in the cookie authenticates.
fn message(time_s: u64, key: KeyHash) -> Vec<u8> {
    format!("{time_s} {key}").into_bytes()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::Key;

    fn at(time_s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(time_s)
    }

    /// Returns the value of the cookie in `field`, a value of the header field `Set-Cookie`.
    fn value(field: &str) -> String {
        field.split_once('=').unwrap().1.split_once(';').unwrap().0.to_owned()
    }

    #[test]
    fn cookie_is_valid_only_for_its_participant_installation_and_access_key() {
        let [key, other] = [(); 2].map(|()| Key::generate().unwrap().hash());
        let alice = Cookies::new("alice", b"secret");
        let cookie = value(&alice.issue(key, at(1_000)));
        assert!(alice.opens(&cookie, key, at(1_000)));
        assert!(Cookies::new("alice", b"secret").opens(&cookie, key, at(2_000)), "after a restart");
        assert!(!alice.opens(&cookie, other, at(1_000)), "the operator has replaced the access key");
        assert!(!Cookies::new("bob", b"secret").opens(&cookie, key, at(1_000)));
        assert!(!Cookies::new("alice", b"another").opens(&cookie, key, at(1_000)));
        let code = cookie.split_once('.').unwrap().1;
        for wrong in
            ["", ".", code, &format!("1001.{code}"), &format!("+1000.{code}"), &format!("01000.{code}0"), &cookie[..60]]
        {
            assert!(!alice.opens(wrong, key, at(1_000)) && !alice.is_genuine(wrong, key), "{wrong}");
        }
    }

    #[test]
    fn cookie_expires_and_becomes_invalid_when_the_operator_signs_out_the_browsers() {
        let key = Key::generate().unwrap().hash();
        let alice = Cookies::new("alice", b"secret");
        let cookie = value(&alice.issue(key, at(1_000)));
        let last = 1_000 + MAX_AGE.as_secs() - 1;
        assert!(alice.opens(&cookie, key, at(last)) && !alice.opens(&cookie, key, at(last + 1)));
        assert!(alice.is_genuine(&cookie, key), "an old cookie differs from a guessed one");
        let alice = alice.signed_out(Some("1970-01-01T00:16:40Z".parse().unwrap()));
        assert!(!alice.opens(&cookie, key, at(1_000)) && alice.is_genuine(&cookie, key));
        let next = value(&alice.issue(key, at(1_000)));
        assert!(alice.opens(&next, key, at(1_000)), "a browser that opens the link in the same second");
    }
}
