//! The buffers of the last chunk and the last record that a thread has dropped, for its next ones. With chunks of a second, new memory for them would
//! take more time than their content: the allocator gives such large buffers back to the kernel at once.

use std::cell::Cell;

thread_local! {
    static SAMPLES: Cell<Vec<i16>> = const { Cell::new(Vec::new()) };
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Returns an empty buffer for `capacity` samples.
pub(crate) fn samples(capacity: usize) -> Vec<i16> {
    emptied(SAMPLES.take(), capacity)
}

/// Returns an empty buffer for `capacity` bytes.
pub(crate) fn bytes(capacity: usize) -> Vec<u8> {
    emptied(BYTES.take(), capacity)
}

/// Keeps a buffer for the next call of [`samples`] in this thread.
pub(crate) fn keep_samples(buffer: Vec<i16>) {
    SAMPLES.set(buffer);
}

/// Keeps a buffer for the next call of [`bytes`] in this thread.
pub(crate) fn keep_bytes(buffer: Vec<u8>) {
    BYTES.set(buffer);
}

fn emptied<T>(mut buffer: Vec<T>, capacity: usize) -> Vec<T> {
    buffer.clear();
    buffer.reserve_exact(capacity);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_buffer_is_used_again_once_and_is_empty() {
        let buffer = vec![7; 200];
        let address = buffer.as_ptr();
        keep_bytes(buffer);
        let again = bytes(100);
        assert!(again.is_empty() && again.as_ptr() == address);
        assert_eq!(bytes(0).capacity(), 0, "the buffer was taken");
        keep_samples(vec![1, 2]);
        assert!(samples(10).is_empty());
    }
}
