//! The pages for unauthenticated browsers, in French and in English. These pages load no other files.

use crate::http::{Head, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use palabre_config::Key;
use sha2::{Digest as _, Sha256};

/// The reason why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The request has no access key, or a wrong one.
    Unauthenticated,
    /// The key is correct, but the operator has suspended the participant.
    Suspended,
    /// The key is correct but has expired.
    Expired,
    /// The key belongs to an invitation link that was used before.
    Used,
    /// The key belongs to an unused invitation link, but a program sent it. Only a browser can use the link.
    NeedsBrowser,
}

impl Denial {
    /// Returns the response to the denied request `head`: a page for the paths `/` and `/enter`, a line of text for other paths.
    pub(crate) fn response(self, head: &Head) -> Response {
        // Another key would not help a suspended participant: RFC 9110 §15.5.4.
        let status = if self == Self::Suspended { 403 } else { 401 };
        let response = match head.path.as_str() {
            "/" | "/enter" if self == Self::Unauthenticated => with_field(status, head, UNAUTHENTICATED),
            "/" | "/enter" => page(status, self.paragraphs(), "'none'"),
            _ => Response::text(status, self.line()),
        };
        if status == 401 { response.with("WWW-Authenticate", "Bearer") } else { response }
    }

    fn line(self) -> &'static str {
        match self {
            Self::Unauthenticated => "the access key is missing or wrong; ask the operator for your link",
            Self::Suspended => {
                "the operator has suspended this participant's access; the link works again when the operator resumes it"
            }
            Self::Expired => "the access key has expired; ask the operator for a new link",
            Self::Used => "the one-time invitation link has been used; ask the operator for a new link",
            Self::NeedsBrowser => {
                "this invitation link works once, in a browser: open the link in a browser and press the button"
            }
        }
    }

    fn paragraphs(self) -> &'static str {
        match self {
            Self::Unauthenticated | Self::NeedsBrowser => UNAUTHENTICATED,
            Self::Suspended => SUSPENDED,
            Self::Expired => EXPIRED,
            Self::Used => USED,
        }
    }
}

/// Returns the page of an unused invitation link. Only the button on the page uses the link. `key` becomes the browser's access key.
/// The page contains the key, so that a browser whose user presses the button twice gets the same key. `failed`: the supervisor could not
/// record the last use of the button.
pub(crate) fn invitation(link: &str, key: &Key, failed: bool) -> Response {
    let (status, apology) = if failed { (503, NOT_NOW) } else { (200, "") };
    let body = format!(
        "{apology}{INVITATION}<form method=post action=enter>\n<input type=hidden name=link value={link}>\n\
         <input type=hidden name=key value={}>\n<button autofocus>Entrer <span lang=en>· Enter</span></button>\n</form>\n",
        key.as_str()
    );
    // With the referrer policy 'no-referrer', the form would send "Origin: null" (Fetch, "append a request Origin header"). With
    // 'same-origin', the key would be in the field Referer, which a proxy may log.
    page(status, &body, "'self'").with("Referrer-Policy", "strict-origin")
}

/// Returns the response to a `POST /paste` whose text is not an invitation link of this host.
pub(crate) fn no_such_link(head: &Head) -> Response {
    with_field(400, head, NO_SUCH_LINK)
}

/// Returns a page with a field for an invitation link. The browser sends the link as it is, without percent-encoding.
fn with_field(status: u16, head: &Head, paragraphs: &str) -> Response {
    // Chromium applies 'form-action' to the redirection too, which may lead to the port of another participant.
    let host = head.field("host").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let ports = if is_name { format!(" https://{name}:*") } else { String::new() };
    let body = format!("{paragraphs}{FIELD}");
    page(status, &body, &format!("'self'{ports}"))
}

fn page(status: u16, body: &str, form_action: &str) -> Response {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'",
        BASE64.encode(Sha256::digest(STYLE))
    );
    let html = format!("{HEAD}<style>{STYLE}</style>\n<main>\n<h1>Palabre</h1>\n{body}</main>\n</html>\n");
    Response::new(status)
        .with_body("text/html; charset=utf-8", html.into_bytes())
        .with("Content-Security-Policy", policy)
}

const HEAD: &str = "<!doctype html>
<html lang=fr>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width\">
<meta name=robots content=noindex>
<title>Palabre</title>
";

/// The style sheet of the pages for unauthenticated browsers. Its colours are those of the participant's page.
const STYLE: &str = "
:root { color-scheme: light dark; --ground: #f6f0e4; --ink: #1f2f2a; --soft: #5a675f; --leaf: #1f5b4c; --on-leaf: #fdf8ee }
@media (prefers-color-scheme: dark) {
  :root { --ground: #131917; --ink: #ece5d6; --soft: #9ba89f; --leaf: #86c8ae; --on-leaf: #0d1714 }
}
body { margin: 0; background: var(--ground); color: var(--ink); font: 1.05rem/1.5 system-ui, sans-serif }
main { max-width: 34rem; margin: 0 auto; padding: 12vh 1.2rem 2rem }
h1 { font: 2.2rem/1.2 \"Iowan Old Style\", \"Palatino Linotype\", Palatino, Georgia, \"DejaVu Serif\", serif; color: var(--leaf) }
p[lang=en] { color: var(--soft) }
code { overflow-wrap: anywhere }
button { min-height: 3rem; padding: .6rem 1.8rem; border: 1px solid transparent; border-radius: 1.1rem; background: var(--leaf); color: var(--on-leaf);
  font: inherit; font-weight: 600; cursor: pointer }
label, input { display: block; margin: 1rem 0 .4rem }
input { box-sizing: border-box; width: 100%; min-height: 3rem; margin: 0 0 1rem; padding: .6rem 1rem; border: 1px solid var(--soft);
  border-radius: .8rem; background: transparent; color: inherit; font: inherit }
[role=alert] { font-weight: 600 }
input:focus-visible, button:focus-visible { outline: 3px solid var(--ink); outline-offset: 3px }
";

const UNAUTHENTICATED: &str =
    "<p>Cette page s’ouvre avec votre lien personnel, celui qui se termine par <code>?key=…</code>.
Demandez-le à la personne qui gère ce serveur.
<p lang=en>This page opens with your personal link, which ends in <code>?key=…</code>.
Ask the person who runs this server for it.
";

const FIELD: &str = "<form method=post action=paste enctype=text/plain>
<label for=link>Collez votre lien ici <span lang=en>· Paste your link here</span></label>
<input id=link name=link type=url required maxlength=500 autocomplete=off>
<button>Ouvrir <span lang=en>· Open</span></button>
</form>
";

const NO_SUCH_LINK: &str = "<p role=alert>Ce n’est pas un lien d’invitation de ce serveur. Copiez le lien entier : il commence par la même adresse que cette page
et se termine par <code>?key=…</code>.
<p role=alert lang=en>This is not an invitation link of this server. Copy the whole link: it begins with the same address as this page
and ends in <code>?key=…</code>.
";

const SUSPENDED: &str = "<p>Votre accès est suspendu. Votre lien fonctionnera de nouveau quand la personne qui gère ce serveur l’aura rétabli.
<p lang=en>Your access is suspended. Your link will work again when the person who runs this server restores your access.
";

const EXPIRED: &str = "<p>Votre lien personnel a expiré. Demandez-en un nouveau à la personne qui gère ce serveur.
<p lang=en>Your personal link has expired. Ask the person who runs this server for a new one.
";

const USED: &str = "<p>Ce lien a déjà servi : il ne fonctionne qu’une fois. Si c’est vous qui l’avez utilisé, reprenez le même navigateur.
Sinon, demandez un nouveau lien à la personne qui gère ce serveur.
<p lang=en>This link has been used, and it works only once. If you used it, use the same browser again.
If not, ask the person who runs this server for a new link.
";

const INVITATION: &str =
    "<p>Ce lien ne fonctionne qu’une fois. Ensuite, vous ne pourrez rejoindre le salon qu’avec ce navigateur :
choisissez donc celui que vous utiliserez.
<p lang=en>This link works only once. After that, you can join only with this browser,
so choose the browser that you will use.
";

const NOT_NOW: &str = "<p role=alert>Cela n’a pas fonctionné. Réessayez dans un instant.
<p lang=en>That didn’t work. Try again in a moment.
";
