/** Starts the workplace. */

import { Api, isPassing, isStatus } from "./api";
import { askName } from "./dialogs";
import { byId, setText } from "./dom";
import { Drafts } from "./drafts";
import { installHook } from "./hook";
import type { Session } from "./messages";
import { Tab } from "./tabs";
import { applyTheme } from "./theme";
import { showTheme } from "./toolbar";
import { messageOf } from "./visit";
import { Workplace } from "./workplace";

const NAME = "maskloop.name";
const NAMES = "[\\p{L}\\p{N}][\\p{L}\\p{M}\\p{N} ._@\\-]{0,63}";

async function start(): Promise<void> {
  showTheme(applyTheme());
  const api = new Api();
  const session = await signedIn(api);
  if (session === null) return;
  const annotator = session.name ?? (await nameHere());
  if (session.name === null) api.annotator = annotator;
  showPerson(api, session, annotator);
  const workplace = new Workplace(api, session, await Drafts.open(), annotator);
  installHook(workplace);
  await enter(workplace);
}

/** The session; null after turning to the sign-in page. */
async function signedIn(api: Api): Promise<Session | null> {
  try {
    return await api.session();
  } catch (error) {
    if (!isStatus(error, 401)) throw error;
    location.replace("/sign-in");
    return null;
  }
}

/** Where nobody signs in, people say who they are once. */
async function nameHere(): Promise<string> {
  const kept = localStorage.getItem(NAME);
  if (kept !== null && new RegExp(`^${NAMES}$`, "u").test(kept)) return kept;
  const name = await askName(NAMES);
  localStorage.setItem(NAME, name);
  return name;
}

function showPerson(api: Api, session: Session, annotator: string): void {
  setText(byId("person"), annotator);
  byId("lead-link").hidden = session.role !== "lead";
  const out = byId("sign-out");
  out.hidden = !session.sign_in_required;
  out.addEventListener(
    "click",
    () => void api.signOut().finally(() => location.assign("/sign-in")),
  );
}

/** One tab works at a time. */
async function enter(workplace: Workplace): Promise<void> {
  const tab = new Tab("maskloop:work", async () => {
    await workplace.course.leave();
    showElsewhere("The work went on in another tab", tab, workplace);
  });
  if (await tab.enter()) await workplace.course.begin();
  else showElsewhere("Another tab of this browser works on this", tab, workplace);
}

function showElsewhere(title: string, tab: Tab, workplace: Workplace): void {
  workplace.close(title, "One tab works at a time, so that no answer is sent twice.", false);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "main";
  button.textContent = "Work here instead";
  button.addEventListener("click", async () => {
    byId("curtain-choices").replaceChildren();
    await tab.take();
    await workplace.course.begin();
  });
  byId("curtain-choices").replaceChildren(button);
}

start().catch((error: unknown) => {
  setText(byId("curtain-title"), "This page could not start");
  const advice = isPassing(error)
    ? "Load it again once the server answers."
    : "Load it again; if that does not help, the server's log says why.";
  setText(byId("curtain-note"), `${messageOf(error)}. ${advice}`);
});
