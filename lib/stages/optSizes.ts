// Names of models as e2e_rlhf.py has them: a size of OPT stands for its repository.
import { pathExists } from '../base/files.js'

const sizes = ['125m', '350m', '1.3b', '2.7b', '6.7b', '13b', '30b', '66b']

/** "1.3b" -> "facebook/opt-1.3b"; a folder of that name goes first, anything else stays as it is. */
export async function modelOfSize(name: string): Promise<string> {
  return sizes.includes(name) && !(await pathExists(name)) ? `facebook/opt-${name}` : name
}
