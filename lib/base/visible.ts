// Text of models and data files on a screen: nothing in it may move the cursor, ring the bell or break a page.

/** Control characters as their pictures; line ends and tabs stay. */
export const showControls = (text: string): string =>
  text.replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))).replace(/[\u007f-\u009f]/g, '\u2421')
