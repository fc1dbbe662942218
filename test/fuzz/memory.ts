// Memory of a process: what it has, and the most it had since the last look.
import { readFileSync, writeFileSync } from 'node:fs'

/** Resident bytes of a process, or null where the system has no /proc. */
export function residentBytes(pid: number): number | null {
  return statusField(String(pid), 'VmRSS')
}

/** The most resident bytes of this process since `resetPeak`; where the system has no /proc, since it began. */
export function peakBytes(): number {
  return statusField('self', 'VmHWM') ?? process.resourceUsage().maxRSS * 1024
}

/** Linux forgets the peak so far (proc(5), clear_refs); elsewhere nothing happens, and peaks are those of the whole run. */
export function resetPeak(): void {
  try {
    writeFileSync('/proc/self/clear_refs', '5')
  } catch {
    return
  }
}

function statusField(pid: string, field: string): number | null {
  try {
    const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
    return kilobytes === undefined ? null : Number(kilobytes) * 1024
  } catch {
    return null
  }
}
