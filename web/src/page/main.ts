/** The page of `tsdsr serve` with the worker in place of the server. */

import "../../../src/tsdsr/serving/assets/list.css";
import "../../../src/tsdsr/serving/assets/page.css";
import { prepareOffline } from "./offline";

await prepareOffline();
await import("../../../src/tsdsr/serving/assets/page.js");
