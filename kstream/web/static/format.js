// Numbers, sizes and times as people read them. Units as on the wire: seconds, bytes, records.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const digits = (value, places) =>
  new Intl.NumberFormat("en", { maximumFractionDigits: places, minimumFractionDigits: places }).format(value);

const scaled = (value, base, units) => {
  let at = 0;
  let rest = Math.abs(value);
  while (rest >= base * 0.99995 && at < units.length - 1) {
    rest /= base;
    at += 1;
  }
  const places = at === 0 ? 0 : rest < 10 ? 2 : rest < 100 ? 1 : 0;
  return [`${value < 0 ? "-" : ""}${digits(rest, places)}`, units[at]];
};

/** A long name without its middle: names often differ at their ends. */
export function cut(words, most) {
  if (words.length <= most) return words;
  const tail = Math.floor((most - 1) * 0.6);
  return `${words.slice(0, most - 1 - tail)}…${words.slice(-tail)}`;
}

export const NONE = "–";
const missing = (value) => value === null || value === undefined || Number.isNaN(value);

/** 1,234 */
export const exact = (value) => (missing(value) ? NONE : whole.format(value));

/** 987, 12.3k, 4.56M */
export const count = (value) =>
  missing(value) ? NONE : value < 10_000 && value > -10_000 ? whole.format(value) : scaled(value, 1000, ["", "k", "M", "G", "T"]).join("");

/** 0.4, 12, 12.3k */
export const rate = (value) => (missing(value) ? NONE : value > 0 && value < 9.95 ? digits(value, 1) : count(Math.round(value)));

/** 12.3 MiB */
export const bytes = (value) => (missing(value) ? NONE : scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]).join(" "));

export const percent = (share) => (missing(share) ? NONE : `${digits(share * 100, 0)}%`);

/** 12 ms, 1.24 s, 3 min 10 s, 2 h 05 min, 4 d 3 h */
export function duration(seconds) {
  if (missing(seconds)) return NONE;
  const value = Math.abs(seconds);
  if (value < 0.0095) return `${digits(value * 1000, 1)} ms`;
  if (value < 0.9995) return `${digits(value * 1000, 0)} ms`;
  if (value < 9.995) return `${digits(value, 2)} s`;
  if (value < 59.95) return `${digits(value, 1)} s`;
  const total = Math.round(value);
  if (total < 3600) return `${Math.floor(total / 60)} min ${total % 60} s`;
  if (total < 86_400) return `${Math.floor(total / 3600)} h ${String(Math.floor((total % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(total / 86_400)} d ${Math.floor((total % 86_400) / 3600)} h`;
}

/** 14:03:59, of this browser's time zone */
export const clock = (at) => (missing(at) ? NONE : new Date(at * 1000).toLocaleTimeString("en-GB"));

export const dateTime = (at) =>
  missing(at) ? NONE : `${new Date(at * 1000).toLocaleDateString("en-CA")} ${clock(at)}`;

/** 3 s ago; in 3 s when a clock is ahead */
export function ago(at, now) {
  if (missing(at)) return NONE;
  const age = now - at;
  if (Math.abs(age) < 1) return "now";
  const words = duration(Math.abs(age) < 60 ? Math.round(age) : age).replace(/\.0+ /, " ");
  return age > 0 ? `${words} ago` : `in ${words}`;
}
