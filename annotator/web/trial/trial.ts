/** A page for tests: gives them the predictors as the annotator's page has them. */

import * as client from "../src/worker/client";

Object.assign(window, client);
