// Time behind: how long the next record of an input has waited since it came. Where nothing waits there is none.

import { duration } from "./format.js";

const told = (seconds) => seconds !== null && seconds !== undefined;

/** Of a task: the longest of its inputs. */
export function behindOf(task) {
  return task.inputs.reduce((most, { behind }) => (told(behind) && behind > (most ?? -1) ? behind : most), null);
}

/** `{task, seconds}` of the task that is most behind; null where none is. */
export function worst(tasks) {
  return tasks.reduce((most, task) => {
    const seconds = behindOf(task);
    return told(seconds) && seconds > (most?.seconds ?? -1) ? { task, seconds } : most;
  }, null);
}

/** The ends of inputs are looked at twice a second: less is not known. */
export const behind = (seconds) => (told(seconds) && seconds < 1 ? "< 1 s" : duration(seconds));
