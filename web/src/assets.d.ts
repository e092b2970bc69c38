/** Modules of the server's page, which are plain JavaScript. */
declare module "*/serving/assets/page.js";
