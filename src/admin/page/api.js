// The service's API. The token lives in this tab only and is sent for changes only.

const NAME = "s3-mirror-token";

export const token = {
  get: () => sessionStorage.getItem(NAME),
  set: (value) => sessionStorage.setItem(NAME, value),
  forget: () => sessionStorage.removeItem(NAME),
};

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body) {
  const headers = {};
  if (method !== "GET" && token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method, headers, cache: "no-store", credentials: "omit", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(30000),
    });
  } catch {
    throw new ApiError(0, "the service does not answer");
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // Not JSON: what it says is the message below.
  }
  if (!response.ok) throw new ApiError(response.status, answer?.error ?? (text.slice(0, 200) || response.statusText));
  return answer;
}

/** A query string of what is there. */
export function query(values) {
  const found = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return found.length ? `?${found.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")}` : "";
}

export const get = (path, values = {}) => call("GET", path + query(values));
export const post = (path, body = {}) => call("POST", path, body);
