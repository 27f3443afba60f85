//! Checks that new messages don't disturb a user who reads earlier ones, in any browser.

use anyhow::{Result, ensure};

use crate::keyboard::Page;
use crate::suite::Suite;

/// Checks that the list of messages doesn't move when p02's text arrives while the user reads earlier texts, and that a button shows the new text. The
/// list must contain at least two messages. Closes the panel.
pub fn stay_in_place(suite: &Suite, page: &impl Page) -> Result<()> {
    const LIST: &str = "document.getElementById('message-list')";
    const BELOW: &str = "document.getElementById('messages-below').checkVisibility()";
    if page.run("return document.getElementById('messages').hidden")? == true {
        page.click("#messages-toggle")?;
    }
    // Make the list so low that two messages are enough to scroll it.
    page.run(&format!("{LIST}.style.maxHeight = '4rem'"))?;
    page.run(&format!("{LIST}.scrollTop = 0"))?;
    suite.post("p02", "/say", "below")?;
    page.wait_until(&format!("{LIST}.lastElementChild.textContent.endsWith('below') && {BELOW}"))?;
    ensure!(page.run(&format!("return {LIST}.scrollTop"))? == 0, "the list moved while the user read earlier messages");
    page.click("#messages-below")?;
    page.wait_until(&format!("{LIST}.scrollHeight - {LIST}.scrollTop - {LIST}.clientHeight < 2 && !{BELOW}"))?;
    page.run(&format!("{LIST}.style.maxHeight = ''"))?;
    page.click("#messages-close")
}
