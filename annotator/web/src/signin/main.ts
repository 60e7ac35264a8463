/** Signs a person in by the token in the address or in the field. */

import { Api, isStatus, Refused } from "../app/api";
import { byId, setText } from "../app/dom";
import { applyTheme } from "../app/theme";

const api = new Api();

/** The token of a personal link; it leaves the address and the history at once. */
function tokenOfLink(): string {
  const token = decodeURIComponent(location.hash.slice(1));
  if (location.hash !== "") history.replaceState(null, "", location.pathname);
  return token;
}

async function signIn(token: string): Promise<void> {
  const go = byId<HTMLButtonElement>("go");
  go.disabled = true;
  setText(byId("trouble"), "");
  try {
    const session = await api.signIn(token);
    location.replace(session.role === "lead" ? "/lead" : "/");
  } catch (error) {
    setText(byId("trouble"), problemOf(error));
    go.disabled = false;
    byId("token").focus();
  }
}

function problemOf(error: unknown): string {
  if (isStatus(error, 401))
    return "This token is not known here, or it was replaced. Ask whoever runs the server for a new link.";
  if (isStatus(error, 429))
    return `Too many tries. Wait ${error.retryAfterS ?? 60} seconds, then try again.`;
  if (error instanceof Refused) return `${error.message}. ${error.remedy}`;
  return "The server does not answer. Try again in a moment.";
}

applyTheme();
byId<HTMLFormElement>("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void signIn(byId<HTMLInputElement>("token").value.trim());
});
const token = tokenOfLink();
if (token === "") byId("token").focus();
else void signIn(token);
