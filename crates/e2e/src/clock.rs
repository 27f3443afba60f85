//! Moves the clock of a page, so that tests needn't wait.

/// A JavaScript expression that is always true. Each evaluation makes 5 s pass for the page's watch over the microphone, but not for the watch over
/// the stream.
pub const MICROPHONE_LATER: &str = "(() => {
    window.laterMs = (window.laterMs ?? 0) + 5000;
    window.rightNow ??= performance.now.bind(performance);
    performance.now = () => rightNow() + (/microphone[.]js/.test(new Error().stack) ? laterMs : 0);
    return true;
})()";
