//! A page that was opened before an upgrade of the listener.

use palabre_e2e::browser::Browser;
use serde_json::json;

/// Changes the page version in the first response to GET me after the next reload, as if the page was opened before an upgrade.
const ANSWER_OF_AN_OLDER_LISTENER: &str = "
    const ask = window.fetch;
    let isOld = sessionStorage.getItem('older') === null;
    window.fetch = async (...given) => {
        const answer = await ask(...given);
        if (given[0] !== 'me' || !isOld) return answer;
        isOld = false;
        sessionStorage.setItem('older', 'seen');
        return new Response(JSON.stringify({ ...await answer.json(), page: 'older' }));
    };";

/// Checks that a page in the room reports an upgrade of the listener, and reloads when its button is pressed.
pub fn offers_to_reload(browser: &Browser) {
    let source = json!({ "source": ANSWER_OF_AN_OLDER_LISTENER });
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", source).unwrap();
    browser.run("location.reload()").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door' && sessionStorage.getItem('older') === 'seen'").unwrap();
    browser.click("#join").unwrap();
    let title = "document.querySelector('.notice strong')?.textContent";
    browser.wait_until(&format!("{title} === 'Palabre was updated on the server'")).unwrap();
    browser.click(".notice button").unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.uplink === 'open'").unwrap();
    assert_eq!(browser.run("return document.querySelector('.notice')").unwrap(), serde_json::Value::Null);
}
