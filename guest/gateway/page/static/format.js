// Numbers as people read them; "" for what is not known.

const UNITS = ["B", "KB", "MB", "GB", "TB"];
const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

const isKnown = (value) => typeof value === "number" && Number.isFinite(value);

// Such as "3.7 MB"; units are powers of 1024.
export function size(bytes) {
  if (!isKnown(bytes)) return "";
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(bytes < 100 ? 1 : 0) : bytes} ${UNITS[unit]}`;
}

export function count(number) {
  return isKnown(number) ? whole.format(number) : "";
}

// Such as "1.8M" or "7.6B", for parameters.
export function parameters(number) {
  if (!isKnown(number)) return "";
  return number >= 1e9 ? `${(number / 1e9).toFixed(1)}B` : `${(number / 1e6).toFixed(1)}M`;
}

export function rate(perSecond) {
  if (!isKnown(perSecond)) return "";
  return perSecond < 100 ? perSecond.toFixed(1) : whole.format(Math.round(perSecond));
}

// Such as "54 ms" or "2.3 s".
export function milliseconds(ms) {
  if (!isKnown(ms)) return "";
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms / 1000);
}

// Such as "5 s", "12 min" or "3 d 4 h".
export function duration(seconds) {
  if (!isKnown(seconds)) return "";
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${Math.round(seconds)} s`;
}

// Time of day of seconds since 1970.
export function time(at) {
  return isKnown(at) ? clock.format(at * 1000) : "";
}

export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
