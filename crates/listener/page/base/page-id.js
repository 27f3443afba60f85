/** @returns {string} 16 random letters and digits, which identify this page to the listener */
export function pageId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => (n % 36).toString(36)).join('');
}
